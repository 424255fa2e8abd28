package runtimeapi_test

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if os.Getenv("AWS_LAMBDA_RUNTIME_API") != "" {
		function() // this binary again, as a function on aws-lambda-go
		return
	}
	goleak.VerifyTestMain(m)
}
