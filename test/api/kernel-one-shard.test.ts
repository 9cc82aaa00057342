import { kernelSuite } from './kernel-suite.js';
import { ONE_SHARD } from './topologies.js';

kernelSuite(ONE_SHARD);
