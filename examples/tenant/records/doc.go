// Package records is a service of an account that keeps records for the account's customers, and shows how one knows for which
// customer a function asks: by the token that Hearth gives the function's environment, and by nothing that the function says itself.
//
//	GET /records/{id}      the record, if it is the customer's          200  401 no token  403 another customer's  404 none
//	PUT /records/{id}      make or replace it, as the customer's own    200  401  403  413 too large  507 full
//
// Copy tokens.go: it is all that another service needs. Records are kept in memory, and gone with the process.
package records
