package client

import (
	"context"
	"time"
)

// PutCodeWithin is [Client.PutCode] that gives up when nothing is heard for this long.
func (c *Client) PutCodeWithin(ctx context.Context, zip []byte, idle time.Duration) (string, error) {
	return c.putCode(ctx, zip, idle)
}
