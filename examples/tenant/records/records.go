package records

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"regexp"
	"sync"
)

// Bounds of what is kept.
const (
	maxRecord    = 64 << 10 // bytes
	maxRecords   = 100      // of a customer
	maxBytes     = 1 << 20  // of a customer's records together
	maxCustomers = 500
)

var idPattern = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// Service answers HTTP. Safe for concurrent use.
type Service struct {
	tokens *Verifier
	mux    *http.ServeMux

	mu        sync.Mutex // guards customers
	customers map[string]*customer
}

// customer is what one of them keeps here. What the others have is nowhere near it, so that no check can be forgotten.
type customer struct {
	records map[string]json.RawMessage
	bytes   int
}

// New makes a service without records.
func New(tokens *Verifier) *Service {
	s := &Service{tokens: tokens, mux: http.NewServeMux(), customers: make(map[string]*customer)}
	s.mux.HandleFunc("GET /records/{id}", s.authenticated(s.get))
	s.mux.HandleFunc("PUT /records/{id}", s.authenticated(s.put))
	return s
}

// ServeHTTP implements [http.Handler].
func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

// authenticated lets through who has a good token.
func (s *Service) authenticated(next func(w http.ResponseWriter, r *http.Request, id string, who Caller)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		who, err := s.tokens.Verify(r)
		id := r.PathValue("id")
		switch {
		case errors.Is(err, ErrKeys):
			w.Header().Set("Retry-After", "10")
			answer(w, http.StatusServiceUnavailable, problem{"tokens cannot be checked now"})
		case err != nil:
			w.Header().Set("WWW-Authenticate", `Bearer error="invalid_token"`)
			answer(w, http.StatusUnauthorized, problem{err.Error()})
		case !idPattern.MatchString(id):
			answer(w, http.StatusBadRequest, problem{"an id has 1 to 64 of a-z, A-Z, 0-9, - and _"})
		default:
			next(w, r, id, who)
		}
	}
}

type problem struct {
	Error string `json:"error"`
}

// found is a record as it is answered.
type found struct {
	Record json.RawMessage `json:"record"`
}

func (s *Service) get(w http.ResponseWriter, _ *http.Request, id string, who Caller) {
	s.mu.Lock()
	var data json.RawMessage
	if own := s.customers[who.Tenant]; own != nil { // as the token says, whatever the request says
		data = own.records[id]
	}
	s.mu.Unlock()
	if data == nil {
		answer(w, http.StatusNotFound, problem{"you have no such record"})
		return
	}
	answer(w, http.StatusOK, found{data})
}

func (s *Service) put(w http.ResponseWriter, r *http.Request, id string, who Caller) {
	data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRecord))
	switch {
	case errors.As(err, new(*http.MaxBytesError)):
		answer(w, http.StatusRequestEntityTooLarge, problem{"a record has at most 64 KiB"})
		return
	case err != nil || !json.Valid(data):
		answer(w, http.StatusBadRequest, problem{"a record is JSON"})
		return
	}
	if !s.store(who.Tenant, id, data) {
		answer(w, http.StatusInsufficientStorage, problem{"there is no room for another record"})
		return
	}
	answer(w, http.StatusOK, found{data})
}

// store keeps a customer's record, if there is room for it.
func (s *Service) store(name, id string, data json.RawMessage) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	own := s.customers[name]
	if own == nil {
		if len(s.customers) >= maxCustomers {
			return false
		}
		own = &customer{records: make(map[string]json.RawMessage)}
		s.customers[name] = own
	}
	was, known := own.records[id]
	bytes := own.bytes + len(data) - len(was)
	if bytes > maxBytes || !known && len(own.records) >= maxRecords {
		return false
	}
	own.records[id], own.bytes = data, bytes
	return true
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // who asked has gone if it fails
}
