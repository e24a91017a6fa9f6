"""The program `orlop-cni`: a CNI plugin with Orlop's drivers and addresses, for any engine."""
