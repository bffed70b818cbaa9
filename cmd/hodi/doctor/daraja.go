package doctor

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/hodihq/hodi/sync/daraja"
)

// Shortcode is one that the settings have, or why it cannot be used.
type Shortcode struct {
	Name string
	daraja.Shortcode
	Err error
}

const darajaWithin = 10 * time.Second

// credentialsOf asks Daraja for a token, which the next one may end: a sidecar that runs then asks for another by itself.
func credentialsOf(s Shortcode, base string) check {
	return func(ctx context.Context, say func(Finding)) {
		f := Finding{Check: "Daraja " + s.Name, Verdict: OK}
		if s.Err != nil {
			f.Found = s.Err.Error()
			say(refused(f, "Mend what it says there. The sidecar does not start before."))
			return
		}
		if base == "" {
			base = daraja.BaseURL(s.Environment)
		}
		host := base
		if u, err := url.Parse(base); err == nil {
			host = u.Host
		}
		ctx, cancel := context.WithTimeout(ctx, darajaWithin)
		defer cancel()
		began := time.Now()
		err := daraja.NewTokens(base, s.ConsumerKey, s.ConsumerSecret, nil).Check(ctx)
		took := time.Since(began)
		answer, _ := errors.AsType[*daraja.Error](err)
		switch {
		case err == nil:
			f.Figures = map[string]float64{"tokenMs": took.Seconds() * 1000}
			f.Found = fmt.Sprintf("%s takes the consumer key and secret (%s, %s). The passkey shows only in a payment", host, s.Environment, milli(took))
		case answer == nil || answer.Status == 0:
			f.Found = fmt.Sprintf("%s cannot be asked: %s", host, wordsOf(err))
			say(refused(f, "Nobody can be asked for a payment until it can. If the internet works here, have whoever runs this network let TCP port 443 out to it.", "curl -sv -o /dev/null -m 10 "+base))
			return
		case !daraja.NotSent(err):
			f.Found = fmt.Sprintf("%s does not take the consumer key and secret: %s", host, wordsOf(err))
			say(refused(f, fmt.Sprintf("Copy both anew from the app on developer.safaricom.co.ke (those of %s: the other environment's are refused) into the files that [shortcode.%s] names, and start the sidecar anew.", s.Environment, s.Name)))
			return
		default:
			f.Found = fmt.Sprintf("%s has no token for us: %s", host, wordsOf(err))
			say(refused(f, "Safaricom has its moments: try again in some minutes. If it stays so, see whether a proxy answers in its place.", "curl -sv -o /dev/null -m 10 "+base))
			return
		}
		say(f)
	}
}

// wordsOf is what Daraja said, or what was said in its place.
func wordsOf(err error) string {
	text := strings.TrimPrefix(strings.TrimPrefix(err.Error(), "daraja: token: "), "not sent: ")
	if strings.Contains(text, "network is unreachable") {
		return "this machine is not connected"
	}
	return text
}
