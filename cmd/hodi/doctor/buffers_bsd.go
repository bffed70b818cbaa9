//go:build darwin || freebsd

package doctor

// enlarge is what github.com/quic-go/quic-go/wiki/UDP-Buffer-Sizes recommends.
var enlarge = []string{
	"sudo sysctl -w kern.ipc.maxsockbuf=8441037",
	"echo kern.ipc.maxsockbuf=8441037 | sudo tee -a /etc/sysctl.conf",
}
