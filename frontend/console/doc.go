// Package console is the page at /console: what an operator at night, or a developer with a slow call, looks at first.
//
// # What it shows
//
//	/console                  health: managers, environments by state, calls a second, reservations that are not ready
//	/console/functions        the functions of the account, searched and paged here, not in the browser
//	/console/functions/NAME   one of them: versions, aliases, limits, reservations, events, calls as they end, how to see its log
//	/console/ring             managers and arcs, drawn and as tables
//	/console/calls            calls as they end, live
//	/console/events           dead letters, with the command that redrives each
//	/console/trace/ID         the story of one call
//	/console/live             server-sent events for the pages above (live.go)
//	/console/static/NAME      one style sheet, one script, one icon: embedded, with no build step and nothing from elsewhere
//
// Pages are rendered here and are whole without the script, which adds what changes while one looks. Everything is read-only:
// what changes something is a command to copy (shell.go), which runs with the reader's own credential.
//
// # How a call gets here
//
//	frontend ends a call ── Watched? one atomic load ──► Feed.Tell ──► every watcher: counted, and kept as a row or not
//	                                                                        │ each half second
//	                                                     /console/live ◄────'  counts, and at most 10 rows
//
// Nobody waits for a watcher: it holds a fixed number of rows, and what comes beyond them is counted only (feed.go). Of
// its rows a half is for calls that failed or went cold, so that a few of them are seen among thousands.
//
// # What it trusts
//
// The frontend around it for the guard of SECURITY 6: names of hosts, pages of other sites, proxies, who is on loopback.
// Not one text that it shows: html/template escapes them, the script puts them in as text and never as markup, what would
// hide or reorder is shown as its code (text.go), and the policy of content lets no other script or style in. Nor a
// browser that reads slowly: every write has a deadline, windows have a bound, and the end of the frontend ends them.
//
// What it shows is of its own frontend where it says so: calls, and how many there were. DESIGN 10, 11; SECURITY 2, 6.
package console
