// Package check tests what is in deploy/ with the tools and libraries of those who read it: compose-go, promtool,
// amtool, kubectl-validate. It is a module of its own, so that none of them is a dependency of the product.
//
//	make deploy-check
package check
