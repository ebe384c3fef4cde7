/* System calls without libc, for the child that still shares PID 1's memory: libc would write the shared errno, and its
 * setuid functions signal threads that do not exist. Results are the kernel's: -errno on failure.
 * raw_start is the one call that no libc has: a clone onto another stack with control of all six argument registers. */
#ifndef CORRAL_RAW_H
#define CORRAL_RAW_H

#include <stdint.h>
#include <sys/syscall.h>

#if defined(__x86_64__)
static inline long raw6(long nr, long a, long b, long c, long d, long e, long f) {
    long result;
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    __asm__ volatile("syscall" : "=a"(result) : "0"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9) : "rcx", "r11", "memory");
    return result;
}
/* In the child: calls run(context) on the new stack and never returns. In the parent: the result of the call. */
static inline long raw_start(long nr, const long args[6], void (*run)(void *), void *context) {
    long result;
    register long r10 __asm__("r10") = args[3];
    register long r8 __asm__("r8") = args[4];
    register long r9 __asm__("r9") = args[5];
    register void *r12 __asm__("r12") = context;
    register void (*rbx)(void *) __asm__("rbx") = run;
    __asm__ volatile(
        "syscall\n\t"
        "test %%rax, %%rax\n\t"
        "jnz 1f\n\t"
        "xor %%ebp, %%ebp\n\t" /* end of the chain of frames */
        "mov %%r12, %%rdi\n\t"
        "call *%%rbx\n\t"
        "ud2\n"
        "1:"
        : "=a"(result)
        : "0"(nr), "D"(args[0]), "S"(args[1]), "d"(args[2]), "r"(r10), "r"(r8), "r"(r9), "r"(r12), "r"(rbx)
        : "rcx", "r11", "memory", "cc");
    return result;
}
#elif defined(__aarch64__)
static inline long raw6(long nr, long a, long b, long c, long d, long e, long f) {
    register long x8 __asm__("x8") = nr;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    register long x4 __asm__("x4") = e;
    register long x5 __asm__("x5") = f;
    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory", "cc");
    return x0;
}
static inline long raw_start(long nr, const long args[6], void (*run)(void *), void *context) {
    register long x8 __asm__("x8") = nr;
    register long x0 __asm__("x0") = args[0];
    register long x1 __asm__("x1") = args[1];
    register long x2 __asm__("x2") = args[2];
    register long x3 __asm__("x3") = args[3];
    register long x4 __asm__("x4") = args[4];
    register long x5 __asm__("x5") = args[5];
    register void *x20 __asm__("x20") = context;
    register void (*x19)(void *) __asm__("x19") = run;
    __asm__ volatile(
        "svc 0\n\t"
        "cbnz x0, 1f\n\t"
        "mov x29, #0\n\t"
        "mov x0, x20\n\t"
        "blr x19\n\t"
        "brk #0\n"
        "1:"
        : "+r"(x0)
        : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5), "r"(x20), "r"(x19)
        : "memory", "cc");
    return x0;
}
#else
#error "raw.h: this processor has no raw system calls here yet"
#endif

static inline long raw0(long nr) { return raw6(nr, 0, 0, 0, 0, 0, 0); }
static inline long raw1(long nr, long a) { return raw6(nr, a, 0, 0, 0, 0, 0); }
static inline long raw2(long nr, long a, long b) { return raw6(nr, a, b, 0, 0, 0, 0); }
static inline long raw3(long nr, long a, long b, long c) { return raw6(nr, a, b, c, 0, 0, 0); }
static inline long raw4(long nr, long a, long b, long c, long d) { return raw6(nr, a, b, c, d, 0, 0); }

#endif
