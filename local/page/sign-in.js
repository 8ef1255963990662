// Sign-in with an OpenID provider: authorization code with PKCE, in this tab. No dependency: copy it into your own page.
// Source: OpenID Connect Core 1.0; RFC 7636 (PKCE).

const KEY = "sign-in";

/** Goes to the provider, which leads back to this page's origin. `provider` is `{ authorizationEndpoint, clientId, scope }`. */
export async function signIn({ authorizationEndpoint, clientId, scope }) {
  const [state, verifier] = [random(), random()];
  sessionStorage.setItem(KEY, JSON.stringify({ state, verifier, address: location.pathname }));
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(verifier));
  const asked = {
    response_type: "code",
    client_id: clientId,
    redirect_uri: `${location.origin}/`,
    scope,
    state,
    code_challenge: base64url(new Uint8Array(digest)),
    code_challenge_method: "S256",
  };
  location.assign(`${authorizationEndpoint}?${new URLSearchParams(asked)}`);
}

/**
 * Returns the token that the provider gives for the code in this page's address, and takes that out of the address; null
 * where nobody has come back from it. Throws what the provider says when it refuses.
 */
export async function signedIn({ tokenEndpoint, clientId }) {
  const answer = new URLSearchParams(location.search);
  const began = JSON.parse(sessionStorage.getItem(KEY) ?? "null");
  if (!began || answer.get("state") !== began.state) return null;
  sessionStorage.removeItem(KEY);
  history.replaceState(null, "", began.address);
  if (!answer.get("code")) throw new Error(answer.get("error_description") ?? answer.get("error") ?? "no code");
  const response = await fetch(tokenEndpoint, {
    method: "POST",
    body: new URLSearchParams({
      grant_type: "authorization_code",
      client_id: clientId,
      redirect_uri: `${location.origin}/`,
      code: answer.get("code"),
      code_verifier: began.verifier,
    }),
  });
  const tokens = await response.json();
  if (!response.ok) throw new Error(tokens.error_description ?? tokens.error ?? `HTTP ${response.status}`);
  // Some providers' access tokens are for themselves alone, and no JWT: then the ID token says who it is.
  return tokens.access_token?.split(".").length === 3 ? tokens.access_token : tokens.id_token;
}

function random() {
  return base64url(crypto.getRandomValues(new Uint8Array(32)));
}

function base64url(bytes) {
  return btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}
