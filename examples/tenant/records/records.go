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
	maxRecord  = 64 << 10 // bytes
	maxRecords = 1_000
)

var idPattern = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// Service answers HTTP. Safe for concurrent use.
type Service struct {
	tokens *Verifier
	mux    *http.ServeMux

	mu      sync.Mutex // guards records
	records map[string]record
}

type record struct {
	owner string // the customer
	data  json.RawMessage
}

// New makes a service without records.
func New(tokens *Verifier) *Service {
	s := &Service{tokens: tokens, mux: http.NewServeMux(), records: make(map[string]record)}
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
	it, ok := s.records[id]
	s.mu.Unlock()
	switch {
	case !ok:
		answer(w, http.StatusNotFound, problem{"there is no such record"})
	case it.owner != who.Tenant: // what the token says, whatever the request says
		answer(w, http.StatusForbidden, problem{"it is another customer's"})
	default:
		answer(w, http.StatusOK, found{it.data})
	}
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
	status, body := s.store(id, record{owner: who.Tenant, data: data})
	answer(w, status, body)
}

// store keeps a record, unless it is another customer's or there is no room for it.
func (s *Service) store(id string, it record) (status int, body any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	was, ok := s.records[id]
	switch {
	case ok && was.owner != it.owner:
		return http.StatusForbidden, problem{"it is another customer's"}
	case !ok && len(s.records) >= maxRecords:
		return http.StatusInsufficientStorage, problem{"there is no room for another record"}
	}
	s.records[id] = it
	return http.StatusOK, found{it.data}
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // who asked has gone if it fails
}
