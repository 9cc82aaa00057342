/** The model passes its own suite: else the suite, or the model, is wrong. */
import { describeEngine } from './engine-suite.js';
import { memoryRig } from './memory-engine.js';

describeEngine('in-memory model', (limits) => memoryRig(limits));
