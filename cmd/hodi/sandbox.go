package main

import (
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/hodihq/hodi/sync/daraja/sandbox"
	"github.com/urfave/cli/v2"
)

// sandboxFlags are those that `hodi dev` has too.
func sandboxFlags() []cli.Flag {
	return []cli.Flag{
		&cli.DurationFlag{Name: "ack-delay", Value: 300 * time.Millisecond, Usage: "answer a request after `TIME`", EnvVars: []string{"HODI_SANDBOX_ACK_DELAY"}},
		&cli.DurationFlag{Name: "prompt-delay", Value: time.Second, Usage: "show the prompt after `TIME`", EnvVars: []string{"HODI_SANDBOX_PROMPT_DELAY"}},
		&cli.DurationFlag{Name: "callback-delay", Value: 2 * time.Second, Usage: "call back `TIME` after the PIN", EnvVars: []string{"HODI_SANDBOX_CALLBACK_DELAY"}},
		&cli.DurationFlag{Name: "prompt-timeout", Value: time.Minute, Usage: "give up on a customer after `TIME`", EnvVars: []string{"HODI_SANDBOX_PROMPT_TIMEOUT"}},
	}
}

func sandboxCommand() *cli.Command {
	return &cli.Command{
		Name:  "sandbox",
		Usage: "a pretend Safaricom with a phone to approve on",
		Flags: append([]cli.Flag{
			&cli.StringFlag{Name: "data", Usage: "keep state in `DIR`; none is kept if not given", EnvVars: []string{"HODI_SANDBOX_DATA"}},
			&cli.StringFlag{Name: "listen", Value: "127.0.0.1:8789", Usage: "serve the API and the phone on `ADDRESS`", EnvVars: []string{"HODI_SANDBOX_LISTEN"}},
		}, sandboxFlags()...),
		Action: runSandbox,
	}
}

func runSandbox(c *cli.Context) error {
	settings, _, err := loadFile(c, "sidecar")
	if err != nil {
		return err
	}
	s := settings.Sandbox
	over(c, "data", &s.Data)
	over(c, "listen", &s.Listen)
	overSandboxDelays(c, &s)
	logger, err := newLogger(c, slog.LevelInfo)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", s.Listen)
	if err != nil {
		return fmt.Errorf("sandbox: %w%s", err, portHint(err))
	}
	defer listener.Close()
	config := sandboxConfig(s)
	config.Listener, config.Dir, config.Logger = listener, s.Data, logger
	d, err := sandbox.Open(c.Context, config)
	if err != nil {
		return err
	}
	defer d.Close()
	logger.Info("sandbox serves", "url", "http://"+listener.Addr().String(), "phone", "http://"+listener.Addr().String()+"/phone",
		"shortcode", "174379", "consumer-key", sandbox.DefaultConsumerKey)
	return endedByRequest(c.Context, d.Run(c.Context))
}

func overSandboxDelays(c *cli.Context, s *sandboxSettings) {
	overDuration(c, "ack-delay", &s.AckDelay)
	overDuration(c, "prompt-delay", &s.PromptDelay)
	overDuration(c, "callback-delay", &s.CallbackDelay)
	overDuration(c, "prompt-timeout", &s.PromptTimeout)
}

// sandboxConfig reads a delay of zero as none: in sandbox.Config a zero means the default, and less than zero none.
func sandboxConfig(s sandboxSettings) sandbox.Config {
	exact := func(d duration) time.Duration {
		if d == 0 {
			return -1
		}
		return time.Duration(d)
	}
	return sandbox.Config{
		AckDelay: exact(s.AckDelay), PromptDelay: exact(s.PromptDelay),
		CallbackDelay: exact(s.CallbackDelay), PromptTimeout: time.Duration(s.PromptTimeout),
	}
}
