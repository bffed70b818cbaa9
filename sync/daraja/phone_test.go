package daraja_test

import (
	"strings"
	"testing"

	"github.com/hodihq/hodi/sync/daraja"
)

func TestPhoneNumbersAreReadAsPeopleWriteThem(t *testing.T) {
	for in, want := range map[string]string{
		"254708374149": "254708374149", "+254708374149": "254708374149", "0708374149": "254708374149", "708374149": "254708374149",
		"0708 374 149": "254708374149", "+254 708-374-149": "254708374149", "+254 (0) 708 374149": "254708374149", "00254708374149": "254708374149",
		"\u202a+254 708 374 149\u202c": "254708374149", "0708\u2011374\u2011149": "254708374149", " 0708.374.149\n": "254708374149",
		"0118000001": "254118000001", "254118000001": "254118000001", "+254142000001": "254142000001", "182000001": "254182000001",
		"2540708374149": "254708374149",
		"":              "", "0": "", "070837414": "", "07083741490": "", "254808374149": "", "0208374149": "", "+255708374149": "", "2547083741490": "",
		"0708374149 ext 2": "", "0708374149+": "", "07O8374149": "", "٠٧٠٨٣٧٤١٤٩": "", "254254708374149": "", "1": "", "+": "",
		"00708374149": "254708374149", "999999999999999999999": "",
	} {
		got, err := daraja.NormalizePhone(in)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q is read as %q (%v), want %q", in, got, err, want)
		}
		if err != nil && len(in) > 8 && strings.Contains(err.Error(), in) {
			t.Errorf("the error repeats the number: %v", err)
		}
	}
}

func TestMaskedPhonesGiveNobodyAway(t *testing.T) {
	for in, want := range map[string]string{
		"254708374149": "254708***149", "0708374149": "254708***149", "+254 708 374 149": "254708***149",
		"254708***149": "254708***149", "2547 ***** 149": "2547 ***** 149", "2******9": "2******9", "25470****149": "25470****149",
		"": "", "0708": "***", "12345": "***", "255708374149": "255708***149", "70837414*": "***", "***708374149": "***", "Jane 254708374149": "***",
		strings.Repeat("a", 64): "***", "254708*374*149": "***",
	} {
		if got := daraja.MaskPhone(in); got != want {
			t.Errorf("%q is masked as %q, want %q", in, got, want)
		}
	}
}

func FuzzNormalizePhone(f *testing.F) {
	for _, s := range []string{"254708374149", "+254 (0) 708-374-149", "0118000001", "00254", "2******9"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, err := daraja.NormalizePhone(s)
		if err == nil {
			if len(n) != 12 || n[:3] != "254" || n[3] != '7' && n[3] != '1' || strings.Trim(n, "0123456789") != "" {
				t.Errorf("%q is read as %q", s, n)
			}
			if again, err := daraja.NormalizePhone(n); again != n {
				t.Errorf("%q read again is %q (%v)", n, again, err)
			}
		}
		masked := daraja.MaskPhone(s)
		if again := daraja.MaskPhone(masked); again != masked {
			t.Errorf("%q is masked as %q, and masked again as %q", s, masked, again)
		}
		digits := 0
		for _, r := range masked {
			if r >= '0' && r <= '9' {
				digits++
			}
		}
		if digits > 10 {
			t.Errorf("%q masked still shows %d digits: %q", s, digits, masked)
		}
	})
}
