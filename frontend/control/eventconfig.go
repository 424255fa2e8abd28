package control

import (
	"context"
	"time"

	"github.com/hearth-run/hearth/schema"
)

// putEventConfig sets what happens to a function's events; what the request leaves out is as if nothing had been set.
func (s *Service) putEventConfig(ctx context.Context, account string, request []byte) (any, error) {
	in, name, err := eventConfigInput(account, request)
	if err != nil {
		return nil, err
	}
	return s.changeEventConfig(ctx, account, name, in, func(*schema.FunctionRecord) (schema.EventInvokeConfigRecord, error) {
		return schema.EventInvokeConfigRecord{}, nil
	})
}

// updateEventConfig changes the members that the request has. A destination that is there and empty is taken away.
func (s *Service) updateEventConfig(ctx context.Context, account string, request []byte) (any, error) {
	in, name, err := eventConfigInput(account, request)
	if err != nil {
		return nil, err
	}
	return s.changeEventConfig(ctx, account, name, in, func(rec *schema.FunctionRecord) (schema.EventInvokeConfigRecord, error) {
		if rec.Event == nil {
			return schema.EventInvokeConfigRecord{}, noEventConfig(rec)
		}
		return *rec.Event, nil
	})
}

// changeEventConfig writes the configuration from which on the request's members apply. Nothing of a version changes, so no
// environment ends by it.
func (s *Service) changeEventConfig(ctx context.Context, account, name string, in *schema.EventConfigInput,
	from func(*schema.FunctionRecord) (schema.EventInvokeConfigRecord, error),
) (any, error) {
	if err := s.checkDestinations(ctx, account, in); err != nil {
		return nil, err
	}
	rec, revision, err := s.change(ctx, account, name, nil, commutes, func(rec *schema.FunctionRecord) error {
		next, err := from(rec)
		if err != nil {
			return err
		}
		if err := applyEventConfig(&next, account, in); err != nil {
			return err
		}
		next.Modified = time.Now().UTC()
		rec.Event = &next
		return nil
	})
	if err != nil {
		return nil, err
	}
	s.settle(ctx, revision)
	return eventConfiguration(rec), nil
}

// checkDestinations names the destinations that are no functions of the account. One that is deleted later makes records that
// go nowhere; that is its deleter's wish.
func (s *Service) checkDestinations(ctx context.Context, account string, in *schema.EventConfigInput) error {
	var bad []schema.FieldError
	for field, d := range in.DestinationConfig.All() {
		name, err := schema.ParseDestination(account, d.Destination)
		if err != nil || name == "" {
			continue // refused before, or nowhere
		}
		switch _, err := s.read(ctx, account, name); {
		case schema.CodeOf(err) == schema.CodeNotFound && err != nil:
			bad = append(bad, schema.FieldError{Field: field, Got: clip(d.Destination), Allowed: "a function that exists"})
		case err != nil:
			return err
		}
	}
	return schema.Invalid(bad...)
}

func applyEventConfig(to *schema.EventInvokeConfigRecord, account string, in *schema.EventConfigInput) error {
	if in.MaximumRetryAttempts != nil {
		n := *in.MaximumRetryAttempts
		to.Retries = &n
	}
	if in.MaximumEventAgeInSeconds != nil {
		to.MaxAge = time.Duration(*in.MaximumEventAgeInSeconds) * time.Second
	}
	if in.Hearth != nil && in.Hearth.RetryDelaySeconds != nil {
		to.RetryDelay = time.Duration(*in.Hearth.RetryDelaySeconds) * time.Second
	}
	for _, d := range in.DestinationConfig.All() {
		name, err := schema.ParseDestination(account, d.Destination)
		if err != nil {
			return err
		}
		if d == in.DestinationConfig.OnSuccess {
			to.OnSuccess = name
		} else {
			to.OnFailure = name
		}
	}
	return nil
}

// getEventConfig answers with what was set; nothing set is a 404, as on AWS, and means the defaults.
func (s *Service) getEventConfig(ctx context.Context, account string, request []byte) (any, error) {
	name, err := eventConfigOf(request, "GetFunctionEventInvokeConfig")
	if err != nil {
		return nil, err
	}
	rec, err := s.read(ctx, account, name)
	if err != nil {
		return nil, err
	}
	if rec.Event == nil {
		return nil, noEventConfig(rec)
	}
	return eventConfiguration(rec), nil
}

// deleteEventConfig sets the defaults again.
func (s *Service) deleteEventConfig(ctx context.Context, account string, request []byte) (any, error) {
	name, err := eventConfigOf(request, "DeleteFunctionEventInvokeConfig")
	if err != nil {
		return nil, err
	}
	_, revision, err := s.change(ctx, account, name, nil, commutes, func(rec *schema.FunctionRecord) error {
		if rec.Event == nil {
			return noEventConfig(rec)
		}
		rec.Event = nil
		return nil
	})
	if err != nil {
		return nil, err
	}
	s.settle(ctx, revision)
	return nil, nil
}

// listEventConfigs lists the configurations of a function: the one of the function as a whole, or none.
func (s *Service) listEventConfigs(ctx context.Context, account string, request []byte) (any, error) {
	in, err := decode[schema.ListInput](request)
	if err != nil {
		return nil, err
	}
	if err := only(in, "ListFunctionEventInvokeConfigs", "FunctionName", "Marker", "MaxItems"); err != nil {
		return nil, err
	}
	if _, err := pageSize(in.MaxItems); err != nil {
		return nil, err
	}
	if in.Marker != "" { // no answer of ours has a second page
		return nil, schema.Invalid(schema.FieldError{Field: "Marker", Got: clip(in.Marker), Allowed: "the NextMarker of the page before"})
	}
	name, err := unqualified(in.FunctionName)
	if err != nil {
		return nil, err
	}
	rec, err := s.read(ctx, account, name)
	if err != nil {
		return nil, err
	}
	out := schema.ListEventConfigsOutput{FunctionEventInvokeConfigs: []schema.EventConfigOutput{}}
	if rec.Event != nil {
		out.FunctionEventInvokeConfigs = append(out.FunctionEventInvokeConfigs, eventConfiguration(rec))
	}
	return out, nil
}

// eventConfigInput reads a request to set the configuration and names every bad field.
func eventConfigInput(account string, request []byte) (in *schema.EventConfigInput, name string, err error) {
	if in, err = decode[schema.EventConfigInput](request); err != nil {
		return nil, "", err
	}
	if name, err = wholeFunction(in.FunctionName, in.Qualifier); err != nil {
		return nil, "", err
	}
	return in, name, schema.Invalid(in.Validate(account)...)
}

// eventConfigOf reads a request that names a function alone.
func eventConfigOf(request []byte, operation string) (name string, err error) {
	in, err := decode[schema.EventConfigInput](request)
	if err != nil {
		return "", err
	}
	if err := only(in, operation, "FunctionName", "Qualifier"); err != nil {
		return "", err
	}
	return wholeFunction(in.FunctionName, in.Qualifier)
}

// wholeFunction reads a function's name where what is set holds for all its versions.
func wholeFunction(functionName, qualifier string) (string, error) {
	name, q, err := target(functionName, qualifier)
	if err == nil && q != "" && q != schema.Latest {
		err = schema.Invalid(schema.FieldError{Field: "Qualifier", Got: clip(q), Allowed: "$LATEST, or left out: it holds for all versions"})
	}
	return name, err
}

func noEventConfig(rec *schema.FunctionRecord) error {
	return schema.Errorf(schema.CodeNotFound, "The function %s doesn't have an EventInvokeConfig", schema.ARN(rec.Account, rec.Name, schema.Latest))
}

// eventConfiguration is Lambda's FunctionEventInvokeConfig: what was set, and nothing that was not.
func eventConfiguration(rec *schema.FunctionRecord) schema.EventConfigOutput {
	e := rec.Event
	out := schema.EventConfigOutput{
		FunctionArn:  schema.ARN(rec.Account, rec.Name, schema.Latest),
		LastModified: float64(e.Modified.UnixMilli()) / 1000, MaximumRetryAttempts: e.Retries,
		DestinationConfig: &schema.DestinationConfig{OnSuccess: destinationOf(rec.Account, e.OnSuccess), OnFailure: destinationOf(rec.Account, e.OnFailure)},
	}
	if n := int(e.MaxAge / time.Second); n > 0 {
		out.MaximumEventAgeInSeconds = &n
	}
	if n := int(e.RetryDelay / time.Second); n > 0 {
		out.Hearth = &schema.HearthEventConfig{RetryDelaySeconds: &n}
	}
	return out
}

func destinationOf(account, name string) *schema.Destination {
	if name == "" {
		return &schema.Destination{} // AWS answers with an empty object
	}
	return &schema.Destination{Destination: schema.ARN(account, name, "")}
}
