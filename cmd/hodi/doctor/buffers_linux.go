package doctor

// enlarge is what github.com/quic-go/quic-go/wiki/UDP-Buffer-Sizes recommends.
var enlarge = []string{
	"sudo sysctl -w net.core.rmem_max=7500000",
	"sudo sysctl -w net.core.wmem_max=7500000",
	`printf 'net.core.rmem_max=7500000\nnet.core.wmem_max=7500000\n' | sudo tee /etc/sysctl.d/50-hodi.conf`,
}
