/** Equal to package.json's version (a test holds them together); a constant, so that a bundled build carries it. */
export const VERSION = '0.1.0';
