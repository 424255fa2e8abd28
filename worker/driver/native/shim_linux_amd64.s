#include "textflag.h"

// shim carries out system calls, one after another, as the steps at $0x10000000 say (script_linux.go has their layout). It is
// never called: elf makes a program of its code. R12 is the step; a system call keeps it.
TEXT ·shim(SB),NOSPLIT|NOFRAME,$0-0
	MOVQ	$0x10000000, R12

step:
	MOVQ	0(R12), AX
	MOVQ	8(R12), DI
	MOVQ	16(R12), SI
	MOVQ	24(R12), DX
	MOVQ	32(R12), R10
	MOVQ	40(R12), R8
	MOVQ	48(R12), R9
	SYSCALL
	MOVQ	AX, 80(R12)
	// -4095 to -1 are errors.
	MOVQ	AX, R13
	NEGQ	R13
	LEAQ	-1(R13), R14
	CMPQ	R14, $4095
	JCS	failed

	// It worked. With a jump: is this the result that goes on here?
	MOVQ	56(R12), R13
	TESTQ	R13, R13
	JEQ	next
	CMPQ	AX, 64(R12)
	JEQ	next
	MOVQ	R13, R12
	JMP	step

failed:
	CMPQ	R13, 72(R12)
	JEQ	next
	MOVQ	$1, AX   // write(3, step, 96)
	MOVQ	$3, DI
	MOVQ	R12, SI
	MOVQ	$96, DX
	SYSCALL
	MOVQ	$231, AX // exit_group(125)
	MOVQ	$125, DI
	SYSCALL

next:
	ADDQ	$96, R12
	JMP	step

	// The end, as elf finds it.
	BYTE	$0x48; BYTE $0x45; BYTE $0x41; BYTE $0x52; BYTE $0x48; BYTE $0x54; BYTE $0x45; BYTE $0x48

// func shimCode() unsafe.Pointer
TEXT ·shimCode(SB),NOSPLIT,$0-8
	LEAQ	·shim(SB), AX
	MOVQ	AX, ret+0(FP)
	RET
