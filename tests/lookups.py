"""A watch over names looked up and addresses connected to, by a program and all that it starts, in any language."""

import os
import shutil
import subprocess
from pathlib import Path

LIBRARY = r"""
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void note(const char *what, const char *whom) {
    char line[600], program[200] = "";
    int file = open("/proc/self/cmdline", O_RDONLY);
    if (file >= 0) { ssize_t n = read(file, program, 160); close(file);
        for (ssize_t i = 0; i < n - 1; i++) if ((unsigned char)program[i] < 32) program[i] = ' '; }
    int length = snprintf(line, sizeof line, "%s %s %s\n", what, whom ? whom : "-", program);
    int log = open(getenv("LOOKUPS"), O_WRONLY | O_CREAT | O_APPEND, 0666);
    if (log >= 0) { if (write(log, line, length) < 0) abort(); close(log); }
}
#define REAL(name) static __typeof__(name) *real; if (!real) real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **found) {
    REAL(getaddrinfo); note("name", node); return real(node, service, hints, found);
}
struct hostent *gethostbyname(const char *node) { REAL(gethostbyname); note("name", node); return real(node); }
struct hostent *gethostbyname2(const char *node, int kind) {
    REAL(gethostbyname2); note("name", node); return real(node, kind);
}
int gethostbyname_r(const char *node, struct hostent *h, char *b, size_t n, struct hostent **r, int *e) {
    REAL(gethostbyname_r); note("name", node); return real(node, h, b, n, r, e);
}
static void note_address(const struct sockaddr *to) {
    char text[INET6_ADDRSTRLEN];
    if (to && to->sa_family == AF_INET)
        note("address", inet_ntop(AF_INET, &((const struct sockaddr_in *)to)->sin_addr, text, sizeof text));
    if (to && to->sa_family == AF_INET6)
        note("address", inet_ntop(AF_INET6, &((const struct sockaddr_in6 *)to)->sin6_addr, text, sizeof text));
}
int connect(int s, const struct sockaddr *to, socklen_t n) { REAL(connect); note_address(to); return real(s, to, n); }
ssize_t sendto(int s, const void *b, size_t n, int f, const struct sockaddr *to, socklen_t l) {
    REAL(sendto); note_address(to); return real(s, b, n, f, to, l);
}
"""
HERE = ("127.", "::1", "localhost", "0.0.0.0", "-", "::ffff:127.")
"""What this machine alone can mean: loopback, and no name at all, which asks where to listen."""


class Lookups:
    """A library that is loaded before all others into the programs started with `environment`, and what it noted."""

    def __init__(self, folder: Path) -> None:
        source, library, self.log = folder / "lookups.c", folder / "lookups.so", folder / "lookups"
        source.write_text(LIBRARY)
        subprocess.run(["gcc", "-O1", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
        self.environment = {**os.environ, "LD_PRELOAD": str(library), "LOOKUPS": str(self.log)}

    def found(self) -> list[str]:
        """`name HOST PROGRAM` and `address IP PROGRAM`, in their order, since the last call."""
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        self.log.unlink(missing_ok=True)
        return lines

    def abroad(self) -> list[str]:
        """Those that lead away from this machine."""
        own = (os.uname().nodename, *HERE)
        return [line for line in self.found() if not line.split(" ", 2)[1].startswith(own)]


def missing_compiler() -> bool:
    """Whether no watch can be made here."""
    return shutil.which("gcc") is None
