#!/bin/sh
# Makes a full example PKI and roster in out/: a relay, the ministry and four embassies.
#
# Read it as a tutorial: each command stands where a real officer would type it, and a comment says
# on whose machine. Here all of them run on one, which a real ministry must never do.
set -eu
cd "$(dirname "$0")"

# The pouch to run: an installed one by `POUCH=pouch ./make.sh`, or the one of this source tree.
pouch() {
    if [ -n "${POUCH:-}" ]; then command "$POUCH" "$@"; else cargo run --quiet -- "$@"; fi
}

if [ -e out ]; then
    echo "make.sh: certs-example/out exists already; remove it first if nothing uses its keys" >&2
    exit 1
fi
mkdir out

echo "== 1. The ministry makes its CA, on a machine that runs no daemon"
pouch pki init out/ca --trust-domain mod.example

echo "== 2. The ministry makes its roster keys, for three people of whom two must sign"
pouch roster init out/roster --trust-domain mod.example --keys 3 --threshold 2 --relay relay.mod.example:7443

echo "== 3. Each party makes its keys on its own box and sends request.toml; the ministry certifies it"
party() { # FOLDER ID CODE NAME
    pouch pki request "out/$1" --id "spiffe://mod.example/$2" --code "$3" --name "$4"
    pouch pki issue "out/$1/request.toml" --ca out/ca > "out/$1/party.toml"
}
party relay relay/a RELAY "Relay A"
party hub hub MOD "Ministry of Defence"
party idn mission/idn IDN "Embassy of the Republic of Indonesia"
party mys mission/mys MYS "High Commission of Malaysia"
party phl mission/phl PHL "Embassy of the Republic of the Philippines"
party vnm mission/vnm VNM "Embassy of the Socialist Republic of Viet Nam"

echo "== 4. The ministry puts them into the roster and says what each may write and read"
pouch roster add out/roster/roster.toml out/relay/party.toml
pouch roster add out/roster/roster.toml out/hub/party.toml --topics all --clearance "BLOC CONFIDENTIAL"
pouch roster add out/roster/roster.toml out/idn/party.toml out/mys/party.toml out/phl/party.toml \
    out/vnm/party.toml --topics maritime,cyber,intelligence,peacekeeping,industry \
    --clearance "BLOC RESTRICTED"

# Whatever else a roster says is edited by hand: here the group that all missions form.
cat >> out/roster/roster.toml <<'TOML'

[[group]]
code = "ACI"
name = "All missions of the bloc"
members = [3, 4, 5, 6]
TOML

echo "== 5. Two holders of roster keys sign, one after the other"
pouch roster sign out/roster/roster.toml --key out/roster/roster-1.key --out out/roster.note
pouch roster sign out/roster.note --key out/roster/roster-2.key --out out/roster.note

echo "== 6. The trust bundle, from which every later check starts"
pouch roster trust out/roster.note --root out/ca/root.pem --out out/trust.toml
pouch roster check --trust out/trust.toml out/roster.note

echo "== 7. Each box gets the root certificate, the trust bundle and the roster"
cp out/ca/root.pem out/root.pem
for box in relay hub idn mys phl vnm; do
    cp out/root.pem out/trust.toml out/roster.note "out/$box/"
done

echo "== Made in certs-example/out. Look around:"
echo "   pouch pki show certs-example/out/idn/tls.pem"
echo "   pouch roster show certs-example/out/roster.note"
