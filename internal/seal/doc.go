// Package seal keeps the variables of functions from everybody but the managers.
//
// The managers of a fabric hold one X25519 key, each in its data folder ([Load], file seal.key, 0600); the public half stands
// in bucket keys. The first manager proposes it ([Draft], [Key.Keep]), the others get it from one that has it, sealed to a
// key of theirs that serves this once ([NewWish], [Key.HandOver], [Wish.Open]). The frontend that takes a deploy seals the variables to it ([Seal]) and cannot open them again; a manager opens
// them ([Key.Open]) for the binding of an environment and for nothing else.
//
//	frontend                          bucket secrets                    manager
//	Seal(public, at, variables) ----> at: {key id, sealed box} -------> Open(record read at `at`) -> Binding.Variables
//
// What is sealed also names the key under which it lies, which holds the function's id: a record copied to another key,
// so to another function, does not open. A box says nothing of who made it (it is anonymous), so this is no proof of
// origin: who may write the bucket may replace what is in it, and NATS permissions say who may (SECURITY 6).
//
// Values stand in no error and no log; a [Key] prints as stars.
package seal
