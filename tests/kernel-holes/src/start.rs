//! Entry, memory functions, panic and exit.

use core::arch::global_asm;
use core::panic::PanicInfo;

use sel4::{BootInfo, cap::IoPort, constants};

use crate::console::println;
use crate::workshop::Workshop;
use crate::{Finding, main};

global_asm!(
    r#"
    .globl _start
    _start:
        lea rsp, [rip + {stack} + {stack_size}]
        xor ebp, ebp
        call {entry}
        ud2

    # What the compiler calls for copies; written in assembly so that it cannot call itself.
    .globl memcpy
    memcpy:
        mov rax, rdi
        mov rcx, rdx
        rep movsb
        ret

    .globl memmove
    memmove:
        mov rax, rdi
        mov rcx, rdx
        cmp rdi, rsi
        jbe 1f
        lea rdi, [rdi + rcx - 1]
        lea rsi, [rsi + rcx - 1]
        std
        rep movsb
        cld
        ret
    1:  rep movsb
        ret

    .globl memset
    memset:
        mov r8, rdi
        mov eax, esi
        mov rcx, rdx
        rep stosb
        mov rax, r8
        ret

    .globl bcmp
    .globl memcmp
    bcmp:
    memcmp:
        xor eax, eax
        mov rcx, rdx
        cmp rcx, rcx
        repe cmpsb
        je 1f
        movzx eax, byte ptr [rdi - 1]
        movzx ecx, byte ptr [rsi - 1]
        sub ecx, eax
        mov eax, ecx
    1:  ret

    .globl rust_eh_personality
    rust_eh_personality:
        ud2
    "#,
    stack = sym STACK,
    stack_size = const STACK_SIZE,
    entry = sym entry,
);

const STACK_SIZE: usize = 64 * 1024;

#[repr(C, align(16))]
struct Stack([u8; STACK_SIZE]);

static mut STACK: Stack = Stack([0; STACK_SIZE]);

/// QEMU's exit device: writing `v` ends QEMU with exit code 2v + 1.
const EXIT_PORT: u64 = 0x501;

/// Exit codes; the driver has the same.
mod exit {
    pub const OPEN: u64 = 0x10;
    pub const SHUT: u64 = 0x11;
    pub const PANIC: u64 = 0x12;
}

extern "C" fn entry(boot_info: *const u8) -> ! {
    // SAFETY: the kernel passes this address in the first argument's register, and the pages
    // stay as they are.
    let boot_info = unsafe { BootInfo::from_kernel(boot_info) };
    // SAFETY: this is the initial thread's IPC buffer, and other threads of this program do not use
    // the message functions of the sel4 crate.
    unsafe { sel4::set_ipc_buffer(boot_info.ipc_buffer()) };
    let mut workshop = Workshop::new(boot_info);
    leave(match main(&mut workshop) {
        Finding::Open => exit::OPEN,
        Finding::Shut => exit::SHUT,
    })
}

fn leave(code: u64) -> ! {
    let ports = IoPort(constants::seL4_CapIOPort);
    loop {
        if let Err(error) = ports.out8(EXIT_PORT, code) {
            println!("cannot leave: {error}");
        }
    }
}

#[panic_handler]
fn panic(info: &PanicInfo) -> ! {
    println!("{info}");
    leave(exit::PANIC)
}
