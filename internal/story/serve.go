package story

import (
	"fmt"

	"github.com/hearth-run/hearth/schema"
)

// Answer is the answer to a question that came on hearth.trace, both as they cross the wire.
func (b *Book) Answer(question []byte) ([]byte, error) {
	var ask schema.StoryAsk
	if err := schema.Unmarshal(question, &ask); err != nil {
		return nil, fmt.Errorf("read the question for a story: %w", err)
	}
	return schema.Marshal(b.Tell(ask.Account, ask.RequestID))
}
