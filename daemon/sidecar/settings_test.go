package sidecar_test

import (
	"encoding/base64"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hodihq/hodi/daemon/reload"
	"github.com/hodihq/hodi/daemon/sidecar"
	"github.com/hodihq/hodi/sync/daraja"
	"github.com/hodihq/hodi/sync/push"
)

func TestOfEverySettingItIsDecidedWhetherItMayChangeWhileTheSidecarRuns(t *testing.T) {
	if err := reload.Check(reflect.TypeFor[sidecar.Config]()); err != nil {
		t.Error(err)
	}
}

// reload has the sidecar take settings that are those of now but for a change.
func (s *shop) reload(change func(*sidecar.Config)) error {
	s.t.Helper()
	next := s.config
	change(&next)
	err := s.is.Reload(s.t.Context(), next)
	if err == nil {
		s.config = next
	}
	return err
}

// mustReload is reload that succeeds.
func (s *shop) mustReload(change func(*sidecar.Config)) {
	s.t.Helper()
	if err := s.reload(change); err != nil {
		s.t.Fatal(err)
	}
}

func kiosk(c *sidecar.Config) {
	c.Shortcodes = append([]daraja.Shortcode{{Name: "kiosk", Environment: "sandbox", Kind: "paybill", Number: "600000",
		Credentials: daraja.Credentials{ConsumerKey: "k2", ConsumerSecret: "s2", Passkey: "p2"}}}, c.Shortcodes...)
}

func TestSettingsChangeUnderASubscriberWhoIsNotCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, true, outside)
		session := s.opened("100")
		k := s.socket("/sessions/" + session + "/websocket")
		page := []string{"Origin", "https://shop.example", "Host", "127.0.0.1"}
		s.want(s.do("GET", "/sessions/"+session, "", page...), 403, "forbidden-origin")
		s.want(s.do("GET", "/sessions/"+session, "", "Host", "pay.example"), 421, "unknown-host")

		s.mustReload(func(c *sidecar.Config) {
			c.Origins, c.Hosts = []string{"https://shop.example"}, []string{"pay.example"}
		})
		s.want(s.do("GET", "/sessions/"+session, "", page...), 200, "")
		s.want(s.do("GET", "/sessions/"+session, "", "Host", "pay.example"), 200, "")

		s.mustReload(kiosk)
		another := s.do("POST", "/sessions", `{"amount":100,"accountReference":"INV-2","shortcode":"kiosk"}`, "Authorization", "Bearer "+s.key)
		s.want(another, 201, "")

		// The payment of before goes on over the socket of before.
		a := s.do("POST", "/sessions/"+session+"/initiate", `{"phoneNumber":"`+phone+`","shortcode":"duka"}`)
		s.want(a, 200, "")
		k.next(push.STKInitiated, push.Pending)
		s.want(s.do("POST", strings.TrimPrefix(s.daraja.callback(1), s.base), paid(1, 100)), 200, "")
		k.next(push.PaymentCompleted, push.Success)

		// And back: who was let in by a setting is not any more, and who listens goes on.
		s.mustReload(func(c *sidecar.Config) { c.Origins, c.Hosts, c.AcceptCallbacks = nil, nil, false })
		s.want(s.do("GET", "/sessions/"+session, "", page...), 403, "forbidden-origin")
		s.want(s.do("POST", strings.TrimPrefix(s.daraja.callback(1), s.base), paid(1, 100)), 404, "not-found")
		select {
		case m, open := <-k.messages:
			t.Errorf("the socket brought %s, open %v", m, open)
		default:
		}
	})
}

func TestALimitThatChangesHoldsForTheNextPrompt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, true, outside, func(c *sidecar.Config) { c.PromptsPerPhone = 1 })
		s.want(s.do("POST", "/sessions/"+s.opened("100")+"/initiate", `{"phoneNumber":"`+phone+`"}`), 200, "")
		time.Sleep(2 * time.Minute) // the prompt is over
		second := s.opened("100")
		s.want(s.do("POST", "/sessions/"+second+"/initiate", `{"phoneNumber":"`+phone+`"}`), 429, "too-many-prompts")
		s.mustReload(func(c *sidecar.Config) { c.PromptsPerPhone = 2 })
		s.want(s.do("POST", "/sessions/"+second+"/initiate", `{"phoneNumber":"`+phone+`"}`), 200, "")
		time.Sleep(2 * time.Minute)
		s.want(s.do("POST", "/sessions/"+s.opened("100")+"/initiate", `{"phoneNumber":"`+phone+`"}`), 429, "too-many-prompts")
	})
}

func TestSettingsThatAreWrongChangeNothing(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("short"), 0o600); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		s := open(t, true, outside)
		session := s.opened("100")
		for what, wrong := range map[string]func(*sidecar.Config){
			"an origin with a path":      func(c *sidecar.Config) { c.Origins = append(c.Origins, "https://shop.example/path") },
			"a host that is none":        func(c *sidecar.Config) { c.Hosts = []string{"https://x"} },
			"a name twice":               func(c *sidecar.Config) { kiosk(c); kiosk(c) },
			"no environment":             func(c *sidecar.Config) { kiosk(c); c.Shortcodes[0].Environment = "moon" },
			"payments kept too shortly":  func(c *sidecar.Config) { c.KeepPayments = time.Hour },
			"a secret that is too short": func(c *sidecar.Config) { c.Forward, c.ForwardSecretFile = "http://127.0.0.1:1/", secret },
			"an app that is us":          func(c *sidecar.Config) { c.Forward = s.base },
			"a password in an address":   func(c *sidecar.Config) { c.Forward = "http://a:b@127.0.0.1:1/" },
		} {
			err := s.reload(func(c *sidecar.Config) {
				c.Origins, c.PromptsPerPhone = []string{"https://shop.example"}, 1
				wrong(c)
			})
			if err == nil {
				t.Errorf("%s was taken", what)
			}
			s.want(s.do("GET", "/sessions/"+session, "", "Origin", "https://shop.example", "Host", "127.0.0.1"), 403, "forbidden-origin")
		}
		for range 2 { // the limit is still six
			s.want(s.do("POST", "/sessions/"+s.opened("100")+"/initiate", `{"phoneNumber":"`+phone+`"}`), 200, "")
			time.Sleep(2 * time.Minute)
		}
		s.want(s.do("GET", "/forward", ""), 404, "not-found")
	})
}

func TestTheAppMayMoveAndComeAndGo(t *testing.T) {
	secrets := filepath.Join(t.TempDir(), "secrets")
	one, two := "whsec_"+base64.StdEncoding.EncodeToString([]byte(strings.Repeat("1", 32))), "whsec_"+base64.StdEncoding.EncodeToString([]byte(strings.Repeat("2", 32)))
	if err := os.WriteFile(secrets, []byte(one+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		a := &ownApp{code: 200}
		s := open(t, true, func(c *sidecar.Config) { c.ForwardHTTP = a }) // there is no app yet
		s.hook("order-1", cancelled(1))
		synctest.Wait()
		if n := len(a.got); n != 0 {
			t.Fatalf("the app was given %d before it was named", n)
		}
		s.mustReload(func(c *sidecar.Config) { c.Forward, c.ForwardSecretFile = "http://127.0.0.1:3000/a", secrets })
		s.hook("order-2", cancelled(2))
		synctest.Wait()
		if n := len(a.got); n != 1 || a.got[0].URL.Path != "/a" || !a.believes(t, one) {
			t.Fatalf("the app was given %d", n)
		}

		a.code = 503
		s.hook("order-3", cancelled(3))
		synctest.Wait()
		a.code = 200
		s.mustReload(func(c *sidecar.Config) { c.Forward = "http://127.0.0.1:3000/b" })
		synctest.Wait() // what waited for its next attempt is tried there at once
		if n := len(a.got); n != 3 || a.got[2].URL.Path != "/b" {
			t.Fatalf("the app was given %d", n)
		}
		if err := os.WriteFile(secrets, []byte(two+"\n"+one+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		s.mustReload(func(*sidecar.Config) {})
		s.hook("order-4", cancelled(4))
		synctest.Wait()
		if !a.believes(t, one) || !a.believes(t, two) {
			t.Error("while there are two secrets, the app may have either")
		}

		s.mustReload(func(c *sidecar.Config) { c.Forward = "" })
		s.hook("order-5", cancelled(5))
		time.Sleep(time.Hour)
		if n := len(a.got); n != 4 {
			t.Errorf("the app was given %d after it was taken out", n)
		}
		s.mustReload(func(c *sidecar.Config) { c.Forward = "http://127.0.0.1:3000/c" })
		synctest.Wait()
		if n := len(a.got); n != 5 || a.got[4].URL.Path != "/c" {
			t.Errorf("the app was given %d, and what came meanwhile waits for it", n)
		}
	})
}

func TestDarajaIsAskedAboutPaymentsToANewShortcode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, true)
		s.mustReload(kiosk)
		s.want(s.do("POST", "/sessions/order-1/initiate", request(phone, 100, `,"shortcode":"kiosk"`)), 200, "")
		time.Sleep(31 * time.Second)
		synctest.Wait()
		if asked := s.daraja.asked("600000"); asked != 1 {
			t.Errorf("Daraja was asked %d times about the new shortcode's payment", asked)
		}
	})
}

func TestAShortcodeThatASlipOfThePenTookOutHasItsPaymentsAskedAboutWhenItIsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, true, kiosk)
		s.want(s.do("POST", "/sessions/order-1/initiate", request(phone, 100, `,"shortcode":"kiosk"`)), 200, "")
		s.mustReload(func(c *sidecar.Config) {
			c.Shortcodes = append([]daraja.Shortcode(nil), c.Shortcodes...)
			c.Shortcodes[0].Name = "kisok"
		})
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if asked := s.daraja.asked("600000"); asked != 0 {
			t.Fatalf("Daraja was asked %d times about a shortcode that there is not", asked)
		}
		s.mustReload(func(c *sidecar.Config) {
			c.Shortcodes = append([]daraja.Shortcode(nil), c.Shortcodes...)
			c.Shortcodes[0].Name = "kiosk"
		})
		time.Sleep(time.Minute)
		synctest.Wait()
		if asked := s.daraja.asked("600000"); asked == 0 {
			t.Error("nobody asks about the payment any more, although its shortcode is back")
		}
	})
}

func TestAShortcodeThatHasAnotherNumberNowAnswersForNoPaymentToTheOldOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, true, kiosk)
		s.want(s.do("POST", "/sessions/order-1/initiate", request(phone, 100, `,"shortcode":"kiosk"`)), 200, "")
		number := func(n string) func(*sidecar.Config) {
			return func(c *sidecar.Config) {
				c.Shortcodes = append([]daraja.Shortcode(nil), c.Shortcodes...)
				c.Shortcodes[0].Number = n
			}
		}
		s.mustReload(number("600001"))
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if asked := s.daraja.asked("600000") + s.daraja.asked("600001"); asked != 0 {
			t.Fatalf("Daraja was asked %d times in the name of another business", asked)
		}
		s.mustReload(number("600000"))
		time.Sleep(time.Minute)
		synctest.Wait()
		if asked := s.daraja.asked("600000"); asked == 0 {
			t.Error("nobody asks about the payment any more, although its number is back")
		}
	})
}
