import { kernelSuite } from './kernel-suite.js';
import { THREE_SHARDS } from './topologies.js';

kernelSuite(THREE_SHARDS);
