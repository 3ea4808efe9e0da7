//! What holds the namespaces of a pod: waits, buries children whose parents are gone, ends when asked to.
//!
//! Without a library, so that any Rust compiler makes a static program of it. With an argument (`-v`) it ends
//! at once and well, as a health check of upgrades wants it.
#![no_std]
#![no_main]

use core::arch::{asm, global_asm};

const WAIT4: usize = 61;
const EXIT_GROUP: usize = 231;
const RT_SIGPROCMASK: usize = 14;
const RT_SIGTIMEDWAIT: usize = 128;
const SIG_BLOCK: usize = 0;
const WNOHANG: usize = 1;
const SIGINT: usize = 2;
const SIGTERM: usize = 15;
const SIGCHLD: usize = 17;
const SET_SIZE: usize = 8;

global_asm!(".globl _start", "_start:", "mov rdi, [rsp]", "and rsp, -16", "call begin", "ud2");

fn call(number: usize, [a, b, c, d]: [usize; 4]) -> isize {
    let result: isize;
    // SAFETY: these calls touch no memory but the set of signals that they are given.
    unsafe {
        asm!("syscall", inlateout("rax") number as isize => result, in("rdi") a, in("rsi") b, in("rdx") c,
            in("r10") d, lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    result
}

fn exit() -> ! {
    loop {
        call(EXIT_GROUP, [0; 4]);
    }
}

#[unsafe(no_mangle)]
extern "C" fn begin(arguments: usize) -> ! {
    if arguments > 1 {
        exit();
    }
    let set: u64 = 1 << (SIGINT - 1) | 1 << (SIGTERM - 1) | 1 << (SIGCHLD - 1);
    let set = &raw const set as usize;
    call(RT_SIGPROCMASK, [SIG_BLOCK, set, 0, SET_SIZE]);
    loop {
        match call(RT_SIGTIMEDWAIT, [set, 0, 0, SET_SIZE]) as usize {
            SIGINT | SIGTERM => exit(),
            // Of several children that ended together only one is told.
            SIGCHLD => while call(WAIT4, [usize::MAX, 0, WNOHANG, 0]) > 0 {},
            _ => {}
        }
    }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    exit()
}
