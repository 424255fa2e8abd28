package schema

import (
	"fmt"
	"iter"
	"strconv"
	"strings"
	"time"

	"github.com/hearth-run/hearth/subjects"
)

// Validate names every bad field of a Put- or UpdateFunctionEventInvokeConfig. Whether the destinations exist is seen where
// the functions are.
func (in *EventConfigInput) Validate(account string) []FieldError {
	var bad []FieldError
	if n := in.MaximumRetryAttempts; n != nil && (*n < 0 || *n > MaxEventRetries) {
		bad = append(bad, FieldError{"MaximumRetryAttempts", strconv.Itoa(*n), fmt.Sprintf("0 to %d", MaxEventRetries)})
	}
	bad = append(bad, secondsWithin("MaximumEventAgeInSeconds", in.MaximumEventAgeInSeconds, MinEventAge, MaxEventAge)...)
	if in.Hearth != nil {
		bad = append(bad, secondsWithin("Hearth.RetryDelaySeconds", in.Hearth.RetryDelaySeconds, MinRetryDelay, MaxRetryDelay)...)
	}
	self, _, _ := ParseFunctionName(in.FunctionName) // a bad name is named by whoever looks the function up
	for field, d := range in.DestinationConfig.All() {
		name, err := ParseDestination(account, d.Destination)
		switch {
		case err != nil:
			bad = append(bad, FieldError{field, clip(d.Destination), err.Error()})
		case name != "" && name == self:
			bad = append(bad, FieldError{field, clip(d.Destination), "another function: its own events would go round for ever"})
		}
	}
	return bad
}

// All are the destinations that were sent, by the names of their fields.
func (c *DestinationConfig) All() iter.Seq2[string, *Destination] {
	return func(yield func(string, *Destination) bool) {
		if c == nil || c.OnSuccess != nil && !yield("DestinationConfig.OnSuccess.Destination", c.OnSuccess) {
			return
		}
		if c.OnFailure != nil {
			yield("DestinationConfig.OnFailure.Destination", c.OnFailure)
		}
	}
}

func secondsWithin(field string, n *int, least, most time.Duration) []FieldError {
	low, high := int(least/time.Second), int(most/time.Second)
	if n == nil || *n >= low && *n <= high {
		return nil
	}
	return []FieldError{{field, strconv.Itoa(*n), fmt.Sprintf("%d to %d", low, high)}}
}

// ParseDestination reads where a record of an event's end goes: the bare name of a function of the account, from its name or
// its ARN; "" is nowhere. The error says in words what is allowed. Records go to $LATEST, and nothing of AWS's other services
// is there to take one.
func ParseDestination(account, text string) (name string, err error) {
	if text == "" {
		return "", nil
	}
	const allowed = "the name or ARN of a function of this account"
	name, qualifier, err := ParseFunctionName(text)
	switch {
	case err != nil && strings.HasPrefix(text, "arn:"):
		return "", fmt.Errorf("%s: queues, topics and buckets of AWS are not there", allowed)
	case err != nil:
		return "", fmt.Errorf("%s", allowed)
	case qualifier != "" && qualifier != Latest:
		return "", fmt.Errorf("%s, without a qualifier: its $LATEST is called", allowed)
	}
	// ParseFunctionName leaves the account of an ARN aside, because who asks decides whose function is meant. Here another
	// account's would be replaced by ours of the same name, silently.
	if part := strings.Split(text, ":"); part[0] == "arn" && part[4] != accountOf(account) || accountID(part[0]) && len(part) > 2 && part[0] != accountOf(account) {
		return "", fmt.Errorf("%s, which is %s", allowed, accountOf(account))
	}
	return name, nil
}

// accountOf is an account as it stands in ARNs.
func accountOf(account string) string {
	if account == subjects.DefaultAccount || account == "" {
		return DefaultAccountID
	}
	return subjects.Escape(account)
}
