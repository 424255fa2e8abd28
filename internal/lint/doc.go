// Package lint holds the house rules that a machine can check, as rules over the syntax trees of all Go files: for every
// system and build tag at once, and also while a package does not compile. Its test runs them on this module.
//
// A rule yields findings, each with the reason why the rule exists; an exception is written down beside the rule with its
// own reason. Rules: which way imports run ([Imports]), what must not get into the binary ([Binary]), what code must not
// call ([Calls]), goroutines and init functions ([Statements]), what needs a comment ([Docs]), error codes ([Codes]), and
// the length of files ([Lengths]).
package lint
