// Package story keeps what happened to the last calls of a node, and tells it when somebody asks (DESIGN 9, `hearth.trace`).
//
//	frontend, manager ── [Book.Open], [Call.Add] ──► [Book]     a few stores under a short lock, nothing allocated
//	asker ── schema.StoryAsk ──► [Book.Tell] ── words.go ──► schema.StoryPart
//	parts of all nodes ── [Merge] ──► schema.Story              in the order in which steps caused one another
//
// A [Step] is a code, a few numbers and shared strings; it becomes words only when it is told. No payload, no secret and no text of a
// function gets in: a function's failure is told by the platform's code for it.
//
// # Whose clock
//
// Each node stamps its steps by its own wall clock, and clocks of two hosts are never compared: between nodes, the order is that of
// causes (this publication before its claim, this delivery before the next, a claim before its hand-over). Nodes of one host share
// a clock, and say so by its name.
package story
