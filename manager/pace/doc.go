// Package pace is what a manager decides by numbers alone, and the paces at which it acts: how many room pulls an arc gets, when a
// catcher believes that nobody has room, how long what is given back stays away. It is pure: it reads no clock and speaks to nobody,
// so that `hearth sim` decides with the same code as package manager. DESIGN 2, 5.
package pace
