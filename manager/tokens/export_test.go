package tokens

import "context"

// Turn looks at the clocks once.
func (k *Keys) Turn(ctx context.Context) error { return k.turn(ctx) }
