/** Child process that takes a data directory's lock and keeps it until it is killed: see data-directory.test.ts. */
import { lockDataDirectory } from '../../src/shards/data-directory.js';

const lock = await lockDataDirectory(process.argv[2] as string);
lock.ref();
process.send?.('locked');
