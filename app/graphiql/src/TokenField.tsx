/** The field for the API token, hidden unless the reader asks to see it. */

import { type FormEvent, useEffect, useRef, useState } from "react";

interface TokenFieldProps {
  token: string;
  onChange: (token: string) => void;
}

/** Report the token when it is complete (Enter, or leaving the field), not at each key. */
export function TokenField({ token, onChange }: TokenFieldProps) {
  const [isShown, setIsShown] = useState(false);
  const field = useRef<HTMLInputElement>(null);
  // A link can bring another token while the field is on screen.
  useEffect(() => void (field.current!.value = token), [token]);
  const commit = () => onChange(field.current!.value.trim());
  const submit = (event: FormEvent) => {
    event.preventDefault();
    commit();
  };

  return (
    <form className="gero-token" onSubmit={submit}>
      <label htmlFor="gero-token">API token</label>
      <input
        ref={field}
        id="gero-token"
        type={isShown ? "text" : "password"}
        onBlur={commit}
        placeholder="sent as Authorization: Bearer …"
        autoComplete="off"
        autoCapitalize="off"
        spellCheck={false}
      />
      <button
        type="button"
        aria-pressed={isShown}
        aria-controls="gero-token"
        onClick={() => setIsShown(!isShown)}
      >
        {isShown ? "Hide" : "Show"}
      </button>
    </form>
  );
}
