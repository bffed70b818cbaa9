// Command sbom says what a binary was built of: every module with its version and its sum, as CycloneDX. It reads that
// out of the binary itself (runtime/debug's build information), so it cannot name what is not in it.
package main

import (
	"debug/buildinfo"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strings"

	cdx "github.com/CycloneDX/cyclonedx-go"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: sbom BINARY > FILE")
		os.Exit(2)
	}
	if err := write(os.Stdout, os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "sbom:", err)
		os.Exit(1)
	}
}

func write(w io.Writer, binary string) error {
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		return err
	}
	// No serial number and no time: the same binary has the same bill.
	bom := cdx.NewBOM()
	hodi := component(&info.Main)
	hodi.Type = cdx.ComponentTypeApplication
	bom.Metadata = &cdx.Metadata{Component: &hodi}
	bom.Components = &[]cdx.Component{{
		Type: cdx.ComponentTypeLibrary, BOMRef: "pkg:golang/std@" + info.GoVersion, Name: "std",
		Version: info.GoVersion, PackageURL: "pkg:golang/std@" + strings.TrimPrefix(info.GoVersion, "go"),
	}}
	needs := []string{"pkg:golang/std@" + info.GoVersion}
	for _, module := range info.Deps {
		if module.Replace != nil {
			module = module.Replace
		}
		c := component(module)
		if c.Hashes, err = hashes(module.Sum); err != nil {
			return fmt.Errorf("%s: %w", module.Path, err)
		}
		*bom.Components = append(*bom.Components, c)
		needs = append(needs, c.BOMRef)
	}
	bom.Dependencies = &[]cdx.Dependency{{Ref: hodi.BOMRef, Dependencies: &needs}}
	return cdx.NewBOMEncoder(w, cdx.BOMFileFormatJSON).SetPretty(true).Encode(bom)
}

func component(module *debug.Module) cdx.Component {
	url := "pkg:golang/" + module.Path + "@" + module.Version
	return cdx.Component{Type: cdx.ComponentTypeLibrary, BOMRef: url, Name: module.Path, Version: module.Version, PackageURL: url}
}

// hashes is the sum of a module as go.sum has it: "h1:" and the base64 of a SHA-256 (golang.org/x/mod/sumdb/dirhash).
func hashes(sum string) (*[]cdx.Hash, error) {
	encoded, ok := strings.CutPrefix(sum, "h1:")
	if !ok {
		return nil, fmt.Errorf("no sum of kind h1: %q", sum)
	}
	raw, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return nil, err
	}
	return &[]cdx.Hash{{Algorithm: cdx.HashAlgoSHA256, Value: hex.EncodeToString(raw)}}, nil
}
