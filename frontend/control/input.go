package control

import (
	"errors"
	"slices"
	"strconv"

	"github.com/hearth-run/hearth/schema"
)

// decode reads a request strictly: see [schema.DecodeInput].
func decode[T any](request []byte) (*T, error) {
	in := new(T)
	if err := schema.DecodeInput(request, in); err != nil {
		return nil, err
	}
	return in, nil
}

// target reads a function's name in any of Lambda's forms and the qualifier that came with it or beside it.
func target(functionName, qualifier string) (name, q string, err error) {
	if functionName == "" {
		return "", "", schema.Invalid(schema.FieldError{Field: "FunctionName", Allowed: "required"})
	}
	name, q, err = schema.ParseFunctionName(functionName)
	if err != nil {
		return "", "", err
	}
	if qualifier == "" {
		return name, q, nil
	}
	if err := schema.ValidateQualifier(qualifier); err != nil {
		return "", "", err
	}
	if q != "" && q != qualifier {
		return "", "", schema.Invalid(schema.FieldError{
			Field: "Qualifier", Got: qualifier, Allowed: "the derived qualifier from the function name does not match the specified qualifier",
		})
	}
	return name, qualifier, nil
}

// unqualified reads a function's name where the operation takes no version.
func unqualified(functionName string) (string, error) {
	name, q, err := target(functionName, "")
	if err != nil {
		return "", err
	}
	if q != "" {
		return "", schema.Invalid(schema.FieldError{Field: "FunctionName", Got: clip(functionName), Allowed: "without a qualifier here"})
	}
	return name, nil
}

// validated reads the name in a request to change a function and applies the checks of its operation, and names every
// bad field of both.
func validated(in *schema.FunctionInput, check func() []schema.FieldError) error {
	name, err := unqualified(in.FunctionName)
	if err == nil {
		in.FunctionName = name
		return schema.Invalid(check()...)
	}
	var named *schema.Error
	if !errors.As(err, &named) {
		return err
	}
	bad := slices.DeleteFunc(check(), func(f schema.FieldError) bool { return f.Field == "FunctionName" })
	return schema.Invalid(append(slices.Clone(named.Fields), bad...)...)
}

// precondition refuses a RevisionId that is not the present one, and says what the present one is.
func precondition(wanted *string, present, what string) error {
	if wanted == nil || *wanted == "" || *wanted == present {
		return nil
	}
	return schema.Errorf(schema.CodePrecondition, "The Revision Id provided does not match the latest Revision Id: %s is not %s, the last "+
		"change was %s", clip(*wanted), present, what)
}

// pageSize is how many items a page holds: what was asked for, at most 50 (Lambda B5).
func pageSize(maxItems int) (int, error) {
	const most = 50
	switch {
	case maxItems == 0:
		return most, nil
	case maxItems < 0 || maxItems > 10_000:
		return 0, schema.Invalid(schema.FieldError{Field: "MaxItems", Got: strconv.Itoa(maxItems), Allowed: "1 to 10000"})
	}
	return min(maxItems, most), nil
}

// apply sets *to where the request has the member.
func apply[T any](to *T, from *T) {
	if from != nil {
		*to = *from
	}
}
