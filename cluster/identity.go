package cluster

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
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
	Key         string `json:"key,omitempty"`
	// Sealed is the key, encrypted, in a cluster that has a secret: who can read this and does not know it is no
	// member. Key is then not kept.
	Sealed []byte `json:"sealed,omitempty"`
}

// certificateName is the host name in the pair, whatever the members' own are.
const certificateName = "wellhead-member"

// newIdentity makes a cluster, sealed when there is a secret.
func newIdentity(shards int, secret string) (Identity, error) {
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
	out := Identity{
		ID: id, Shards: shards, Protocol: Protocol,
		Certificate: text("CERTIFICATE", certificate), Key: text("PRIVATE KEY", private),
	}
	if secret != "" {
		if err := out.seal(secret); err != nil {
			return Identity{}, fmt.Errorf("seal the cluster's key: %w", err)
		}
	}
	return out, nil
}

// cipher is AES-256-GCM under a key that comes of the secret and of the cluster's id.
func (i *Identity) cipher(secret string) (cipher.AEAD, error) {
	key, err := hkdf.Key(sha256.New, []byte(secret), []byte(i.ID), "wellhead cluster key", 32)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

func (i *Identity) seal(secret string) error {
	c, err := i.cipher(secret)
	if err != nil {
		return err
	}
	i.Sealed, i.Key = c.Seal(nil, nil, []byte(i.Key), []byte(i.Certificate)), ""
	return nil
}

// open has the key be there. ErrRefused when the secret is not the cluster's.
func (i *Identity) open(secret string) error {
	switch {
	case i.Sealed == nil && secret != "":
		return fmt.Errorf("%w: cluster %s was made without a secret, and this member has one: leave cluster.secret out, or take a token of `wellhead cluster token`", ErrRefused, i.ID)
	case i.Sealed == nil:
		return nil
	case secret == "":
		return fmt.Errorf("%w: cluster %s has a secret that this member does not know: run `wellhead cluster token` at one of its members, and start this one with --join TOKEN", ErrRefused, i.ID)
	}
	c, err := i.cipher(secret)
	if err != nil {
		return fmt.Errorf("open the cluster's key: %w", err)
	}
	key, err := c.Open(nil, nil, i.Sealed, []byte(i.Certificate))
	if err != nil {
		return fmt.Errorf("%w: the secret is not that of cluster %s: take a new token from `wellhead cluster token` at one of its members, or set cluster.secret as they have it", ErrRefused, i.ID)
	}
	i.Key = string(key)
	return nil
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
