#include "textflag.h"

// shim is what it is on amd64. R19 is the step; a system call keeps it.
TEXT ·shim(SB),NOSPLIT|NOFRAME,$0-0
	MOVD	$0x10000000, R19

step:
	MOVD	0(R19), R8
	MOVD	8(R19), R0
	MOVD	16(R19), R1
	MOVD	24(R19), R2
	MOVD	32(R19), R3
	MOVD	40(R19), R4
	MOVD	48(R19), R5
	SVC
	MOVD	R0, 80(R19)
	// -4095 to -1 are errors.
	NEG	R0, R20
	SUB	$1, R20, R21
	CMP	$4095, R21
	BLO	failed

	// It worked. With a jump: is this the result that goes on here?
	MOVD	56(R19), R20
	CBZ	R20, next
	MOVD	64(R19), R21
	CMP	R21, R0
	BEQ	next
	MOVD	R20, R19
	B	step

failed:
	MOVD	72(R19), R21
	CMP	R21, R20
	BEQ	next
	MOVD	$64, R8  // write(3, step, 96)
	MOVD	$3, R0
	MOVD	R19, R1
	MOVD	$96, R2
	SVC
	MOVD	$94, R8  // exit_group(125)
	MOVD	$125, R0
	SVC

next:
	ADD	$96, R19
	B	step

	// The end, as elf finds it.
	WORD	$0x52414548; WORD $0x48455448

// func shimCode() unsafe.Pointer
TEXT ·shimCode(SB),NOSPLIT,$0-8
	MOVD	$·shim(SB), R0
	MOVD	R0, ret+0(FP)
	RET
