package doctor

// What only bad luck shows on a machine: a slow disk, a kernel that grants little, a clock that nothing keeps right.
var (
	JudgeBuffers     = judgeBuffers
	JudgeClock       = judgeClock
	JudgeDisk        = judgeDisk
	JudgeCertificate = judgeCertificate
)
