package main

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"

	"github.com/hodihq/hodi/daemon/edge"
	"github.com/urfave/cli/v2"
)

// acmeFlags are for an edge that gets its certificate by itself.
func acmeFlags() []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{Name: "acme", Usage: "get a certificate, and renew it, by itself (ACME; of Let's Encrypt)", EnvVars: []string{"HODI_EDGE_ACME"}},
		&cli.BoolFlag{Name: "acme-agree", Usage: "agree to the terms of service of the certificate authority", EnvVars: []string{"HODI_EDGE_ACME_AGREE"}},
		&cli.StringFlag{Name: "acme-email", Usage: "the authority may write to `ADDRESS`", EnvVars: []string{"HODI_EDGE_ACME_EMAIL"}},
		&cli.StringFlag{Name: "acme-directory", Usage: "use the authority at `URL` in place of Let's Encrypt", EnvVars: []string{"HODI_EDGE_ACME_DIRECTORY"}},
		&cli.StringFlag{Name: "acme-ca-file", Usage: "it proves itself with a certificate that `FILE` has signed (PEM)", EnvVars: []string{"HODI_EDGE_ACME_CA_FILE"}},
		&cli.StringSliceFlag{Name: "domain", Usage: "a certificate for `NAME`; that of --public-url if not given; again for more", EnvVars: []string{"HODI_EDGE_DOMAIN"}},
		&cli.StringFlag{Name: "http-listen", Usage: "answer the authority on `ADDRESS` too, like :80", EnvVars: []string{"HODI_EDGE_HTTP_LISTEN"}},
	}
}

func overACME(c *cli.Context, s *edgeSettings) {
	overBool(c, "acme", &s.ACME)
	overBool(c, "acme-agree", &s.ACMEAgree)
	over(c, "acme-email", &s.ACMEEmail)
	over(c, "acme-directory", &s.ACMEDirectory)
	over(c, "acme-ca-file", &s.ACMECAFile)
	overList(c, "domain", &s.Domain)
	over(c, "http-listen", &s.HTTPListen)
}

// setCertificate puts into an edge's Config where its public certificate comes from. Without one the edge must listen where
// only this machine reaches it, or where somebody said that a proxy stands in front of it.
func setCertificate(config *edge.Config, s edgeSettings) error {
	files := s.CertificateFile != "" || s.KeyFile != ""
	switch {
	case s.ACME && files, s.ACME && s.PlainHTTP, files && s.PlainHTTP:
		return errors.New("edge: --acme, --certificate-file and --plain-http exclude each other: say where the certificate is")
	case !s.ACME && s.HTTPListen != "":
		return errors.New("edge: --http-listen is for --acme alone: callbacks come over TLS only")
	case s.ACME:
		return setACME(config, s)
	case files:
		config.CertificateFile, config.KeyFile = s.CertificateFile, s.KeyFile
	case !s.PlainHTTP && !isLoopback(s.Listen):
		return fmt.Errorf("edge: %s is public and there is no certificate: give --acme, or --certificate-file and --key-file, "+
			"or --plain-http where a proxy has it", s.Listen)
	}
	return nil
}

func setACME(config *edge.Config, s edgeSettings) error {
	if !s.ACMEAgree {
		return errors.New("edge: --acme-agree is missing: read the terms of service of the authority (https://letsencrypt.org/repository), and say that you agree")
	}
	domains := s.Domain
	if len(domains) == 0 {
		u, err := url.Parse(s.PublicURL)
		if err != nil || u.Hostname() == "" {
			return fmt.Errorf("edge: --public-url %s has no name in it for which there could be a certificate", s.PublicURL)
		}
		domains = []string{u.Hostname()}
	}
	for i, domain := range domains {
		if strings.ContainsAny(domain, "/:* ") || !strings.Contains(domain, ".") || net.ParseIP(domain) != nil {
			return fmt.Errorf("edge: --domain %q: authorities give certificates for names like hooks.example.co.ke", domain)
		}
		domains[i] = strings.ToLower(domain)
	}
	a := &edge.ACME{Domains: domains, Agreed: true, Email: s.ACMEEmail, Directory: s.ACMEDirectory}
	if s.ACMECAFile != "" {
		b, err := os.ReadFile(s.ACMECAFile)
		if err != nil {
			return fmt.Errorf("edge: --acme-ca-file: %w", err)
		}
		if a.Roots = x509.NewCertPool(); !a.Roots.AppendCertsFromPEM(b) {
			return fmt.Errorf("edge: --acme-ca-file: %s holds no certificate", s.ACMECAFile)
		}
	}
	config.ACME = a
	return nil
}
