/**
 * A library for LD_PRELOAD that makes fdatasync of event log files slow, or fail, as a control file says; compiled here
 * with the system's C compiler. It notes every call, and whether one comes after a failed one on the same open file.
 */
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const SOURCE = `
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The mark of a failed flush: a setting of the open file itself, which the kernel forgets with it, and nothing uses. */
#define MARK 12

static int is_log(int fd) {
  char link[64], path[4096];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, path, sizeof path - 1);
  if (length < 0) return 0;
  path[length] = 0;
  return strstr(path, "/log/") != NULL && strstr(path, ".ndjson") != NULL;
}

static void note(const char *word) {
  int fd = open(getenv("FLUSH_SHIM_NOTES"), O_WRONLY | O_APPEND | O_CREAT, 0644);
  if (fd < 0) return;
  if (write(fd, word, strlen(word)) < 0) abort();
  close(fd);
}

int fdatasync(int fd) {
  int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
  if (!is_log(fd)) return real(fd);
  if (fcntl(fd, F_GETSIG) == MARK) note("again\\n");
  char mode[32] = "";
  FILE *control = fopen(getenv("FLUSH_SHIM_CONTROL"), "r");
  if (control != NULL) {
    if (fgets(mode, sizeof mode, control) == NULL) mode[0] = 0;
    fclose(control);
  }
  if (strncmp(mode, "fail", 4) == 0) {
    fcntl(fd, F_SETSIG, MARK);
    note("failed\\n");
    errno = EIO;
    return -1;
  }
  if (strncmp(mode, "slow ", 5) == 0) usleep(1000 * atoi(mode + 5));
  return real(fd);
}
`;

export class FlushShim {
  private readonly control: string;
  private readonly notesFile: string;
  private readonly library: string;

  private constructor(directory: string) {
    this.control = join(directory, 'control');
    this.notesFile = join(directory, 'notes');
    this.library = join(directory, 'flush-shim.so');
    writeFileSync(this.notesFile, '');
    this.flushesAreFine();
  }

  /** Null when there is no C compiler, or not Linux. */
  static compile(directory: string): FlushShim | null {
    if (process.platform !== 'linux') return null;
    const shim = new FlushShim(directory);
    const source = join(directory, 'flush-shim.c');
    writeFileSync(source, SOURCE);
    try {
      execFileSync('cc', ['-shared', '-fPIC', '-O1', '-o', shim.library, source, '-ldl'], { stdio: 'pipe' });
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
      throw error;
    }
    return shim;
  }

  /** For the server's environment. */
  get env(): Readonly<Record<string, string>> {
    return { LD_PRELOAD: this.library, FLUSH_SHIM_CONTROL: this.control, FLUSH_SHIM_NOTES: this.notesFile };
  }

  flushesAreFine(): void {
    writeFileSync(this.control, 'fine');
  }

  flushesFail(): void {
    writeFileSync(this.control, 'fail');
  }

  flushesTake(ms: number): void {
    writeFileSync(this.control, `slow ${ms}`);
  }

  /** `failed` for each call that failed, `again` for each on a file whose flush had failed before. */
  notes(): string[] {
    return readFileSync(this.notesFile, 'utf8')
      .split('\n')
      .filter((line) => line !== '');
  }
}
