import { kernelSuite } from './kernel-suite.js';
import { TWO_GATEWAYS } from './topologies.js';

kernelSuite(TWO_GATEWAYS);
