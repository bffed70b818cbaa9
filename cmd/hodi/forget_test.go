package main

import (
	"os/exec"
	"strings"
	"testing"
)

// TestACustomerIsForgottenByWhatIsOnStandardInput: never by an argument, which others see.
func TestACustomerIsForgottenByWhatIsOnStandardInput(t *testing.T) {
	s := deploy(t)
	forget := func(said string, args ...string) (string, error) {
		cmd := exec.Command("hodi", append([]string{"payments", "forget"}, args...)...)
		cmd.Dir, cmd.Stdin = s.dir, strings.NewReader(said)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	page, data := s.begin(100)
	for _, wrong := range []struct {
		said, want string
		args       []string
	}{
		{"", "nothing on standard input", nil},
		{"\n", "nothing on standard input", nil},
		{"12345\n", "mobile number", nil},
		{"", "takes no argument", []string{testPhone}},
		{testPhone + "\n", "has no result yet", nil},
	} {
		if out, err := forget(wrong.said, wrong.args...); err == nil || !strings.Contains(out, wrong.want) || wrong.args == nil && strings.Contains(out, testPhone) {
			t.Errorf("of %q it says %q, %v; want an error that says %q", wrong.said, out, err, wrong.want)
		}
	}
	s.answer(t, "approve")
	eventually(t, "the payment", func() bool { return s.state(page)["status"] == "SUCCESS" })
	if out, err := forget("0708 374 149\nand more that is not read\n"); err != nil || !strings.Contains(out, "forgotten: 1 payments, 1 callbacks") || !strings.Contains(out, "Backups") {
		t.Errorf("it says %q, %v", out, err)
	}
	status, now := s.app("GET", "/payments/"+data["paymentId"].(string), nil)
	if status != 200 || now["phoneNumber"] != nil || now["checkoutRequestId"] != nil || now["amount"] != 100.0 || now["mpesaReceiptNumber"] == nil {
		t.Errorf("the payment is %d %v", status, now)
	}
	if out, err := forget(data["paymentId"].(string)); err == nil && !strings.Contains(out, "forgotten: 0") {
		t.Errorf("by the payment it says %q", out)
	}
	if out := s.hodi("audit"); !strings.Contains(out, "customer forgotten") || strings.Contains(out, testPhone[3:]) {
		t.Errorf("hodi audit printed\n%s", out)
	}
}
