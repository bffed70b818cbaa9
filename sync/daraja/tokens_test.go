package daraja_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hodihq/hodi/sync/daraja"
)

func TestCallersShareOneTokenAndOneRequestForIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var given, pushes atomic.Int32
		_, hc := serve(t, func(w http.ResponseWriter, r *http.Request) {
			if r.Method == "GET" {
				given.Add(1)
				time.Sleep(time.Second)
			} else {
				pushes.Add(1)
			}
			answering(200, ack)(w, r)
		})
		tokens := daraja.NewTokens("http://daraja.example/", till.ConsumerKey, till.ConsumerSecret, hc)
		var group sync.WaitGroup
		for range 20 {
			group.Go(func() {
				c := &daraja.Client{BaseURL: "http://daraja.example/", Shortcode: till, HTTP: hc, Tokens: tokens}
				if _, err := c.Push(t.Context(), order); err != nil {
					t.Error(err)
				}
			})
		}
		group.Wait()
		if given.Load() != 1 || pushes.Load() != 20 {
			t.Errorf("for %d pushes %d tokens were asked for, want one", pushes.Load(), given.Load())
		}
	})
}

func TestTokenIsRenewedBeforeItEndsAndTheOldOneServesIfThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		given, fail := 0, false
		var used string
		_, hc := serve(t, func(w http.ResponseWriter, r *http.Request) {
			switch {
			case r.Method == "POST":
				used = r.Header.Get("Authorization")
				answering(200, ack)(w, r)
			case fail:
				w.WriteHeader(503)
			default:
				given++
				fmt.Fprintf(w, `{"access_token":"token-number-%d","expires_in":"1000"}`, given)
			}
		})
		c := &daraja.Client{BaseURL: "http://daraja.example", Shortcode: till, HTTP: hc}
		push := func(want string, because string) {
			t.Helper()
			if _, err := c.Push(t.Context(), order); err != nil || used != "Bearer "+want {
				t.Errorf("%s was used (%v), want %s because %s", used, err, want, because)
			}
		}
		push("token-number-1", "it is the first")
		time.Sleep(890 * time.Second)
		push("token-number-1", "it has 110 s to live")
		time.Sleep(20 * time.Second)
		push("token-number-2", "the first is in the last tenth of its life")
		time.Sleep(950 * time.Second)
		fail = true
		push("token-number-2", "it still lives and there is no other")
		time.Sleep(60 * time.Second)
		wantNotSent(t, "the token is dead and there is no other", c)
		fail = false
		push("token-number-3", "tokens are given out again")
	})
}

func TestTokenThatDarajaDoesNotKnowIsRenewedOnceAndThePushRepeatedOnce(t *testing.T) {
	for _, body := range []string{
		`{"requestId":"1","errorCode":"400.003.01","errorMessage":"Invalid Access Token"}`,
		string(payload(t, "api_error_401_002_01_invalid_token")),
		string(payload(t, "api_error_401_003_01_no_apiproduct")),
		`{"requestId":"1","errorCode":"404.001.03","errorMessage":"Invalid Access Token"}`,
		`{"fault":{"faultstring":"Invalid access token","detail":{"errorcode":"oauth.v2.InvalidAccessToken"}}}`,
		`{"fault":{"faultstring":"Access Token expired","detail":{"errorcode":"keymanagement.service.access_token_expired"}}}`,
	} {
		for _, cure := range []bool{true, false} {
			var tokens, pushes int
			c := connect(t, func(w http.ResponseWriter, r *http.Request) {
				if r.Method == "GET" {
					tokens++
					fmt.Fprintf(w, `{"access_token":"token-number-%d","expires_in":3599}`, tokens)
					return
				}
				pushes++
				if !cure || r.Header.Get("Authorization") == "Bearer token-number-1" {
					answering(401, body)(w, r)
					return
				}
				answering(200, ack)(w, r)
			})
			_, err := c.Push(t.Context(), order)
			if tokens != 2 || pushes != 2 {
				t.Errorf("%s: %d tokens and %d pushes, want two of each", body, tokens, pushes)
			}
			if cure && err != nil || !cure && (!daraja.Refused(err) || daraja.NotSent(err)) {
				t.Errorf("%s: a new token helps: %v; error %v", body, cure, err)
			}
		}
	}
}

func TestTokenThatDiesUnderManyIsReplacedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		live, given := "", 0
		_, hc := serve(t, func(w http.ResponseWriter, r *http.Request) {
			if r.Method == "GET" {
				time.Sleep(time.Second)
				mu.Lock()
				given++
				live = fmt.Sprintf("token-number-%d", given) // the one before is dead
				fmt.Fprintf(w, `{"access_token":%q,"expires_in":3599}`, live)
				mu.Unlock()
				return
			}
			mu.Lock()
			known := r.Header.Get("Authorization") == "Bearer "+live
			mu.Unlock()
			if !known {
				answering(401, string(payload(t, "api_error_401_002_01_invalid_token")))(w, r)
				return
			}
			answering(200, ack)(w, r)
		})
		tokens := daraja.NewTokens("http://daraja.example", till.ConsumerKey, till.ConsumerSecret, hc)
		wantGiven := func(want int, because string) {
			t.Helper()
			var group sync.WaitGroup
			for range 30 {
				group.Go(func() {
					c := &daraja.Client{BaseURL: "http://daraja.example", Shortcode: till, HTTP: hc, Tokens: tokens}
					if _, err := c.Push(t.Context(), order); err != nil {
						t.Error(err)
					}
				})
			}
			group.Wait()
			if given != want {
				t.Errorf("%d tokens were given out, want %d because %s", given, want, because)
			}
		}
		wantGiven(1, "all begin at once")
		live = "somebody else's"
		wantGiven(2, "the first was ended by somebody else")
		time.Sleep(2 * time.Hour)
		wantGiven(3, "the second has expired")
	})
}

func TestTokenThatIsGivenOutAgainUnchangedIsTriedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var pushes, tokens atomic.Int32
		_, hc := serve(t, func(w http.ResponseWriter, r *http.Request) {
			if r.Method == "GET" {
				tokens.Add(1)
			} else {
				pushes.Add(1)
			}
			answering(401, string(payload(t, "api_error_401_002_01_invalid_token")))(w, r)
		})
		c := &daraja.Client{BaseURL: "http://daraja.example", Shortcode: till, HTTP: hc}
		var group sync.WaitGroup
		for range 5 {
			group.Go(func() {
				if _, err := c.Push(t.Context(), order); !daraja.Refused(err) {
					t.Errorf("%v; want it refused", err)
				}
			})
		}
		group.Wait()
		if pushes.Load() != 10 || tokens.Load() > 10 {
			t.Errorf("five callers made %d pushes and asked for %d tokens", pushes.Load(), tokens.Load())
		}
	})
}

func TestWhoeverGivesUpWaitingForATokenLeavesItToTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var tokens atomic.Int32
		_, hc := serve(t, func(w http.ResponseWriter, r *http.Request) {
			if r.Method == "GET" {
				tokens.Add(1)
				select {
				case <-time.After(3 * time.Second):
				case <-r.Context().Done():
					return
				}
			}
			answering(200, ack)(w, r)
		})
		c := &daraja.Client{BaseURL: "http://daraja.example", Shortcode: till, HTTP: hc}
		var group sync.WaitGroup
		impatient, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		group.Go(func() {
			if _, err := c.Push(impatient, order); !daraja.NotSent(err) || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("who asked first and gave up: %v", err)
			}
		})
		synctest.Wait()
		for range 3 {
			group.Go(func() {
				if _, err := c.Push(t.Context(), order); err != nil {
					t.Errorf("who waited: %v", err)
				}
			})
		}
		group.Go(func() {
			if _, err := c.Push(impatient, order); !daraja.NotSent(err) {
				t.Errorf("who waited and gave up: %v", err)
			}
		})
		group.Wait()
		if n := tokens.Load(); n != 2 {
			t.Errorf("%d tokens were asked for, want one by who gave up and one by the next", n)
		}
	})
}
