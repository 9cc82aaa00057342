/** Prints the fault matrix as it stands in docs/durability.md. */
import { renderMatrix } from './fault-matrix.js';

console.log(renderMatrix());
