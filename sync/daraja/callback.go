package daraja

import (
	"errors"
	"time"
)

// Callback is one STK callback: what became of one prompt.
type Callback struct {
	MerchantRequestID string
	CheckoutRequestID string
	ResultCode        string // digits or text, as sent, without quotes: "0", "1032", "BW-JMS-100039"
	ResultDesc        string
	HasAmount         bool
	Amount            int64     // cents, exact
	Receipt           string    // MpesaReceiptNumber
	Completed         time.Time // TransactionDate read as Africa/Nairobi; zero if absent or unreadable
	Phone             string    // as sent: digits, or masked
}

// ParseCallback reads an STK callback.
func ParseCallback(body []byte) (Callback, error) {
	return Callback{}, errors.New("daraja: callback: not written")
}
