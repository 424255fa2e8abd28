package process

import "github.com/hearth-run/hearth/worker/driver"

// Keeper is the number of a driver's keeper, 0 while there is none.
func Keeper(d driver.Driver) int {
	done := make(chan int, 1)
	g := &d.(*Driver).guard
	g.asked <- done
	return <-done
}
