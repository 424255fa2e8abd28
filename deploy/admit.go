package deploy

import (
	"context"
	"slices"
	"time"
)

// admitEvery is how often the folder of credentials is looked at.
const admitEvery = time.Second

// admit takes the credentials of the data folder in while the embedded server runs, and puts out those whose file was
// removed, until the returned function is called. Whoever is connected and still known stays.
func (u *up) admit(known *users) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	u.admitting.Go(func() {
		tick := time.NewTicker(admitEvery)
		defer tick.Stop()
		said := ""
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			others, err := u.data.credentials(u.names, known.others)
			if err != nil && err.Error() != said {
				u.cfg.Logger.Warn("credentials that cannot be used", "error", err)
			}
			said = ""
			if err != nil {
				said = err.Error()
			}
			if sameUsers(others, known.others) {
				continue
			}
			before := known.others
			known.others = others
			if err := u.nats.embedded.reload(known); err != nil {
				known.others = before
				u.cfg.Logger.Error("take credentials in", "error", err)
				continue
			}
			u.cfg.Logger.Info("credentials", "users", len(others))
		}
	})
	return func() {
		cancel()
		u.admitting.Wait()
	}
}

func sameUsers(a, b []Credential) bool {
	return slices.EqualFunc(a, b, func(a, b Credential) bool { return a.File == b.File && a.Key == b.Key })
}
