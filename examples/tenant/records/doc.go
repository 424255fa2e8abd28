// Package records is a service of an account that keeps records for the account's customers, and shows how one knows for which
// customer a function asks: by the token that Hearth gives the function's environment, and by nothing that the function says itself.
//
//	GET /records/{id}      the customer's record of that name    200  401 no token  404 none of its own
//	PUT /records/{id}      make or replace it                    200  401  413 too large  507 the customer, or the service, is full
//
// Each customer has names, and room, of its own: no answer tells one of them what another has, or that it has any.
//
// Copy tokens.go: it is all that another service needs. Records are kept in memory, and gone with the process.
package records
