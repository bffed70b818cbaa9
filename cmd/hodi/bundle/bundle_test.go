package bundle_test

import (
	"archive/zip"
	"bytes"
	"encoding/json"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/hodihq/hodi/cmd/hodi/bundle"
)

func TestABundleTakesNothingThatCouldBeATextFromElsewhere(t *testing.T) {
	type inner struct{ Note string }
	for name, value := range map[string]any{
		"a text": "x", "a text in a struct": struct{ Name string }{}, "one in a list": []string{}, "one far down": struct{ All []*struct{ In []inner } }{},
		"bytes": []byte("x"), "a table": map[string]int{}, "anything": struct{ V any }{}, "what writes itself": json.RawMessage(`"x"`), "in a struct": struct{ V *json.RawMessage }{},
		"a named text": struct{ V json.Number }{}, "an error": struct{ Err error }{}, "nothing": nil, "a hidden text": struct{ name string }{}, "a func": struct{ F func() }{},
		"a month, which has a name": struct{ M time.Month }{},
	} {
		if err := bundle.Write(io.Discard, time.Now(), bundle.Part{Name: bundle.Say("part"), Value: value}); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}

func TestABundleHoldsWhatItIsGiven(t *testing.T) {
	type count struct {
		State bundle.Word
		N     int64
	}
	value := struct {
		Since  time.Time
		Took   time.Duration
		Counts []count
		Why    []bundle.Word
		Hodi   bundle.Word
		None   *count
	}{
		time.Date(2026, 10, 2, 9, 0, 0, 0, time.UTC), time.Second, []count{{bundle.OneOf("applied", "applied", "held"), 3}, {bundle.OneOf("254708374149", "applied"), 1}},
		bundle.Phrases("dial edge.example: no such host, for 254708374149", "no such host", "refused"), bundle.Release("v0.1.1-0.20261122101010-abcdef12"), nil,
	}
	var b bytes.Buffer
	if err := bundle.Write(&b, time.Now(), bundle.Part{Name: bundle.Say("sidecar"), Value: &value}); err != nil {
		t.Fatal(err)
	}
	z, err := zip.NewReader(bytes.NewReader(b.Bytes()), int64(b.Len()))
	if err != nil || len(z.File) != 2 || z.File[0].Name != "READ-ME.txt" || z.File[1].Name != "sidecar.json" {
		t.Fatalf("%v, %v", err, z)
	}
	f, _ := z.File[1].Open()
	text, err := io.ReadAll(f)
	for _, want := range []string{"2026-10-02T09:00:00Z", `"applied"`, `"another"`, `"no such host"`, `"v0.1.1-0.#-abcdef12"`} {
		if !strings.Contains(string(text), want) {
			t.Errorf("%s is not in it (%v)\n%s", want, err, text)
		}
	}
	for _, never := range []string{"254708", "edge.example", "20261122"} {
		if strings.Contains(string(text), never) {
			t.Errorf("%s is in it\n%s", never, text)
		}
	}
}

func TestOnlyWhatLooksLikeAVersionIsARelease(t *testing.T) {
	for s, want := range map[string]string{
		"6.1.0-18-amd64": "6.1.0-18-amd64", "go1.26.0": "go1.26.0", "10.0.19045": "10.0.19045", "v0.1.0": "v0.1.0", "5.15.0-1056.254708374149": "5.15.0-1056.#",
		"Asha Wanjiru": "unknown", "254708374149": "unknown", "": "unknown", "6.1 Asha": "unknown", "development build": "unknown",
	} {
		if b, _ := bundle.Release(s).MarshalText(); string(b) != want {
			t.Errorf("%q is %q, want %q", s, b, want)
		}
	}
}

func TestASettingThatIsATextIsOnlySetOrNot(t *testing.T) {
	type duration time.Duration
	list := bundle.Settings(struct {
		URL    string   `toml:"url"`
		Kind   string   `toml:"kind"`
		Loud   bool     `toml:"loud"`
		Hosts  []string `toml:"hosts"`
		Wait   duration `toml:"wait"`
		Above  *int64   `toml:"above"`
		Notify struct {
			To string `toml:"to"`
		} `toml:"notify"`
	}{"https://secret.example", "till", true, []string{"one", "two"}, duration(90 * time.Second), nil, struct {
		To string `toml:"to"`
	}{"asha@example"}}, "toml", bundle.Choices{"kind": {"till", "paybill"}})
	b, _ := json.Marshal(list)
	want := `[{"Key":"url","Set":true},{"Key":"kind","Set":true,"Choice":"till"},{"Key":"loud","Set":true,"Yes":true},{"Key":"hosts","Set":true,"Count":2},` +
		`{"Key":"wait","Set":true,"Number":90},{"Key":"above","Set":false},{"Key":"notify.to","Set":true}]`
	if string(b) != want {
		t.Errorf("%s\nwant\n%s", b, want)
	}
}
