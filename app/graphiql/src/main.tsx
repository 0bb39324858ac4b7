/** The page's entry: styles, editor workers, and the one component. */

import "graphiql/setup-workers/vite";

import "@graphiql/react/style.css";
import "@graphiql/plugin-doc-explorer/style.css";
import "@graphiql/plugin-history/style.css";
import "graphiql/graphiql.css";
import "./page.css";

import { createRoot } from "react-dom/client";

import { Page } from "./Page";

createRoot(document.getElementById("root")!).render(<Page />);
