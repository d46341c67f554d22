package cluster

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"strings"
	"time"
)

// Identity is the cluster's: its first member makes it, and keeps it where only members can read.
type Identity struct {
	ID       string `json:"id"`
	Shards   int    `json:"shards"`
	Protocol int    `json:"protocol"`
	// Certificate and Key are the one pair (PEM) that all members show and demand, in both directions, when
	// they speak with each other: who has it is a member.
	Certificate string `json:"certificate"`
	Key         string `json:"key"`
}

// certificateName is the host name in the pair, whatever the members' own are.
const certificateName = "wellhead-member"

// newIdentity makes a cluster.
func newIdentity(shards int) (Identity, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Identity{}, fmt.Errorf("make the cluster's key: %w", err)
	}
	id := strings.ToLower(rand.Text()[:12])
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "wellhead cluster " + id}, DNSNames: []string{certificateName},
		// it proves membership, not an identity in time, and a member's clock may be wrong
		NotBefore: time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC),
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		IsCA:        true, BasicConstraintsValid: true,
	}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return Identity{}, fmt.Errorf("make the cluster's certificate: %w", err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return Identity{}, fmt.Errorf("make the cluster's key: %w", err)
	}
	text := func(kind string, der []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	return Identity{
		ID: id, Shards: shards, Protocol: Protocol,
		Certificate: text("CERTIFICATE", certificate), Key: text("PRIVATE KEY", private),
	}, nil
}

// tls returns what a member uses as a server and as a client.
func (i *Identity) tls() (*tls.Config, error) {
	pair, err := tls.X509KeyPair([]byte(i.Certificate), []byte(i.Key))
	if err != nil {
		return nil, fmt.Errorf("read the cluster's certificate: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM([]byte(i.Certificate)) {
		return nil, fmt.Errorf("read the cluster's certificate: %w", ErrInvalid)
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{pair}, ServerName: certificateName,
		RootCAs: pool, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert,
	}, nil
}
