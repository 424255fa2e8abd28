package runtimeapi

import (
	"encoding/json"
	"net/http"
)

// statusText is the reason phrase of a status.
func statusText(status int) string { return http.StatusText(status) }

// appendJSONString appends s as a JSON string.
func appendJSONString(dst []byte, s string) []byte {
	b, err := json.Marshal(s)
	if err != nil {
		return append(dst, `""`...)
	}
	return append(dst, b...)
}
