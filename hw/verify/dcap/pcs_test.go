package dcap

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// silent is a network on which nobody answers.
type silent struct{}

func (silent) RoundTrip(r *http.Request) (*http.Response, error) {
	<-r.Context().Done()
	return nil, r.Context().Err()
}

// TestSilentService: a service that doesn't answer is waited for 30 seconds, and the error
// says so in words, with the URL once.
func TestSilentService(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		_, _, err := PCS{API: "https://pccs.invalid", Client: &http.Client{Transport: silent{}}}.Get(t.Context(), QEIdentity, "")
		var network *NetworkError
		if !errors.As(err, &network) || !errors.Is(err, context.DeadlineExceeded) || strings.Count(err.Error(), "pccs.invalid") != 1 ||
			!strings.Contains(err.Error(), "the service did not answer in time") {
			t.Error(err)
		}
		if waited := time.Since(start); waited != pcsTimeout { // of the bubble's clock
			t.Errorf("waited %v", waited)
		}
	})
}
