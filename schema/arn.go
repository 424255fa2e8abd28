package schema

import "strings"

// Region stands in every ARN: a fabric has no regions, and clients want one of AWS's form.
const Region = "us-east-1"

// DefaultAccountID is the twelve digits under which Lambda's clients see [subjects.DefaultAccount].
const DefaultAccountID = "000000000000"

// Longest spellings of a function: its name alone, and with everything that an ARN puts around it (Lambda B).
const (
	MaxFunctionName = 64
	maxFunctionRef  = 256
)

// ARN is the Amazon Resource Name of a function; an empty qualifier leaves it unqualified. The default account appears
// as [DefaultAccountID], any other one under its escaped name.
func ARN(account, function, qualifier string) string {
	arn := "arn:aws:lambda:" + Region + ":" + accountOf(account) + ":function:" + function
	if qualifier != "" {
		arn += ":" + qualifier
	}
	return arn
}

// ParseFunctionName reads the forms in which Lambda's clients name a function, each with or without ":qualifier":
// name, function:name, 123456789012:function:name, and the whole ARN. What an ARN says of region and account is
// checked for its form and left aside: whose function is meant is decided by who asks, never by what he writes. The
// error is a [CodeInvalidParameter] that names FunctionName or Qualifier. Lambda B.
func ParseFunctionName(s string) (name, qualifier string, err error) {
	if len(s) > maxFunctionRef {
		return "", "", Invalid(FieldError{"FunctionName", clip(s), "at most 256 bytes"})
	}
	part := strings.Split(s, ":")
	switch {
	case part[0] == "arn":
		if len(part) < 7 || !arnPartition(part[1]) || part[2] != "lambda" || !arnRegion(part[3]) || !nameBytes(part[4], "=") ||
			part[5] != "function" {
			return "", "", Invalid(FieldError{"FunctionName", clip(s), "arn:aws:lambda:REGION:ACCOUNT:function:NAME[:QUALIFIER]"})
		}
		part = part[6:]
	case len(part) > 2 && accountID(part[0]) && part[1] == "function":
		part = part[2:]
	case len(part) > 1 && part[0] == "function":
		part = part[1:]
	}
	if len(part) > 2 {
		return "", "", Invalid(FieldError{"FunctionName", clip(s), "NAME, NAME:QUALIFIER or an ARN"})
	}
	if err := ValidateFunctionName(part[0]); err != nil {
		return "", "", err
	}
	if len(part) == 2 {
		if err := ValidateQualifier(part[1]); err != nil {
			return "", "", err
		}
		qualifier = part[1]
	}
	return part[0], qualifier, nil
}

func arnPartition(s string) bool { return s == "" || strings.HasPrefix(s, "aws") && nameBytes(s, "") }

func arnRegion(s string) bool { return s == "" || nameBytes(s, "") }

func accountID(s string) bool {
	if len(s) != len(DefaultAccountID) {
		return false
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}
