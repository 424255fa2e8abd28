package worker

// Making is how many environments count among those that are made at once.
func (w *Worker) Making() int { return len(w.slots) }
